// Pointwise functions of the table `src/graph/pointwise.rs`, for `F` = f32 or vec4<f32> alike.
//
// WGSL's own sin, cos, tanh and log (near 1) have loose absolute error bounds, and an infinity or a
// NaN within an expression may give anything, so arguments are clamped to where the result has
// long reached its limit. The polynomials are minimax fits of relative error below 2e-8.

alias F = f32;
// ---- body

// log(1 + x) = 2 atanh(x / (2 + x)) as an odd polynomial; log itself where 1 + x is far from 1.
fn wg_log1p(x: F) -> F {
    let small = clamp(x, F(-0.5), F(1.0));
    let s = small / (F(2.0) + small);
    let z = s * s;
    let p = F(0.3333315735) + z * (F(0.2001245485) + z * (F(0.139803055) + z * F(0.1408914892)));
    return select(log(F(1.0) + x), F(2.0) * (s + s * z * p), x == small);
}

// sin(r) (-1)^n, where the angle is r + n pi and r lies within half a period around 0.
fn sin_reduced(angle: F, n: F) -> F {
    let r = clamp(angle, F(-1.5708), F(1.5708));
    let z = r * r;
    let p = F(-0.1666665668) + z * (F(0.008333025044) + z * (F(-0.0001980741183) + z * F(2.6018876e-6)));
    let odd = n - F(2.0) * floor(n * F(0.5));
    return (r + r * z * p) * (F(1.0) - F(2.0) * odd);
}

// x - n pi, Cody and Waite: pi = 3.140625 (8 bits, exact products up to n = 65536) + the rest.
fn minus_pi_times(x: F, n: F) -> F {
    return (x - n * F(3.140625)) - n * F(9.6765358979e-4);
}

fn wg_sin(x: F) -> F {
    let n = round(x * F(0.31830988618));
    return sin_reduced(minus_pi_times(x, n), n);
}

// cos(x) = sin(x + pi/2)
fn wg_cos(x: F) -> F {
    let n = round(x * F(0.31830988618) + F(0.5));
    return sin_reduced(minus_pi_times(x, n - F(0.5)), n);
}

fn wg_tanh(x: F) -> F {
    let a = min(abs(x), F(15.0));
    let z = min(a * a, F(0.36));
    let p = F(-0.3333328325) + z * (F(0.133316889) + z * (F(-0.05376870042)
        + z * (F(0.02075361532) + z * F(-0.005852153617))));
    let large = F(1.0) - F(2.0) / (exp(F(2.0) * a) + F(1.0));
    return select(sign(x) * large, x + x * z * p, a < F(0.6));
}

// An odd rational function; from 3.9 on, erf is 1 in f32.
fn wg_erf(x: F) -> F {
    let c = clamp(x, F(-3.9), F(3.9));
    let z = c * c;
    let p = F(1.128379148) + z * (F(0.1896733977) + z * (F(0.05266892578)
        + z * (F(0.003738600959) + z * (F(0.0002850627384) + z * F(2.066364339e-6)))));
    let q = F(1.0) + z * (F(0.5014264553) + z * (F(0.1138216424)
        + z * (F(0.0149148193) + z * (F(0.001157426775) + z * F(3.826890191e-5)))));
    return c * p / q;
}

fn wg_sigmoid(x: F) -> F {
    return F(1.0) / (F(1.0) + exp(-clamp(x, F(-80.0), F(80.0))));
}

// sigmoid(x) (1 - sigmoid(x)) without the cancellation in the second factor.
fn sigmoid_slope(x: F) -> F {
    let e = exp(-min(abs(x), F(80.0)));
    let d = F(1.0) + e;
    return e / (d * d);
}

fn wg_silu_grad(x: F) -> F {
    return wg_sigmoid(x) + clamp(x, F(-80.0), F(80.0)) * sigmoid_slope(x);
}

fn normal_cdf(x: F) -> F {
    return F(0.5) + F(0.5) * wg_erf(x * F(0.70710678119));
}

fn wg_gelu(x: F) -> F {
    return x * normal_cdf(x);
}

fn wg_gelu_grad(x: F) -> F {
    let c = clamp(x, F(-12.0), F(12.0));
    return normal_cdf(x) + c * exp(F(-0.5) * c * c) * F(0.39894228040);
}

// (1 + tanh(u)) / 2 = sigmoid(2 u), which keeps the small tail; this is 2 u for
// u = sqrt(2 / pi) (c + 0.044715 c^3), where c is clamped so that the cube stays finite.
fn gelu_tanh_angle(c: F) -> F {
    return F(1.59576912161) * c * (F(1.0) + F(0.044715) * c * c);
}

fn wg_gelu_tanh(x: F) -> F {
    return x * wg_sigmoid(gelu_tanh_angle(clamp(x, F(-12.0), F(12.0))));
}

fn wg_gelu_tanh_grad(x: F) -> F {
    let c = clamp(x, F(-12.0), F(12.0));
    let angle = gelu_tanh_angle(c);
    let slope = F(1.59576912161) * (F(1.0) + F(0.134145) * c * c);
    return wg_sigmoid(angle) + c * sigmoid_slope(angle) * slope;
}
