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

// tanh(x/2) (exp(x) + 1), in which nothing cancels.
fn wg_expm1(x: F) -> F {
    return wg_tanh(F(0.5) * x) * (exp(x) + F(1.0));
}

fn wg_softplus(x: F) -> F {
    return max(x, F(0.0)) + wg_log1p(exp(-min(abs(x), F(80.0))));
}

// a^b; the sign of a negative base survives odd exponents.
fn wg_pow(a: F, b: F) -> F {
    let zero = a == F(0.0);
    let size = pow(select(abs(a), F(1.0), zero), b);
    let odd = b - F(2.0) * floor(F(0.5) * b) == F(1.0);
    let signed = select(size, -size, (a < F(0.0)) & odd);
    let of_zero = select(F(0.0), F(1.0), b == F(0.0));
    return select(signed, select(of_zero, F(1.0) / abs(a), b < F(0.0)), zero);
}

// The quotient may be rounded to the next whole number: the rest is then put right by one divisor.
fn wg_fmod(x: F, y: F) -> F {
    let size = abs(y);
    let rest = abs(x) - floor(abs(x) / size) * size;
    let up = select(rest, rest + size, rest < F(0.0));
    let down = select(up, up - size, up >= size);
    return select(down, -down, x < F(0.0));
}

fn wg_hypot(x: F, y: F) -> F {
    let long = max(abs(x), abs(y));
    let ratio = min(abs(x), abs(y)) / max(long, F(1e-37));
    return long * sqrt(F(1.0) + ratio * ratio);
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

// The angle of a slope t from 0 to 1.
fn atan_reduced(t: F) -> F {
    let z = t * t;
    let p = F(-0.3333307207) + z * (F(0.1999261975) + z * (F(-0.142036438) + z * (F(0.1064093336)
        + z * (F(-0.07504292578) + z * (F(0.04269149899) + z * (F(-0.01606861502) + z * F(0.002849886427)))))));
    return t + t * z * p;
}

fn wg_atan2(y: F, x: F) -> F {
    let a = abs(x);
    let b = abs(y);
    let first = atan_reduced(min(a, b) / max(max(a, b), F(1e-37)));
    let quarter = select(first, F(1.57079632679) - first, b > a);
    let half = select(quarter, F(3.14159265359) - quarter, x < F(0.0));
    return select(half, -half, y < F(0.0));
}

fn wg_atan(x: F) -> F {
    let a = abs(x);
    let first = atan_reduced(min(a, F(1.0)) / max(a, F(1.0)));
    return sign(x) * select(first, F(1.57079632679) - first, a > F(1.0));
}

// tan(asin(x) / 2) = x / (1 + sqrt(1 - x^2)), which never exceeds 1.
fn wg_asin(x: F) -> F {
    let a = abs(x);
    return sign(x) * F(2.0) * atan_reduced(a / (F(1.0) + sqrt((F(1.0) - a) * (F(1.0) + a))));
}

// tan(acos(x) / 2)^2 = (1 - x) / (1 + x).
fn wg_acos(x: F) -> F {
    let small = F(2.0) * atan_reduced(sqrt((F(1.0) - abs(x)) / (F(1.0) + abs(x))));
    return select(small, F(3.14159265359) - small, x < F(0.0));
}

// By expm1, in which small angles do not cancel; beyond 20 the other exponential has vanished.
fn wg_sinh(x: F) -> F {
    let a = abs(x);
    let e = wg_expm1(min(a, F(20.0)));
    return sign(x) * select(F(0.5) * (e + e / (e + F(1.0))), exp(a - F(0.69314718056)), a > F(20.0));
}

fn wg_cosh(x: F) -> F {
    let a = abs(x);
    let e = exp(min(a, F(20.0)));
    return select(F(0.5) * (e + F(1.0) / e), exp(a - F(0.69314718056)), a > F(20.0));
}

// From 1e4 on, the root is x itself.
fn wg_asinh(x: F) -> F {
    let a = abs(x);
    let c = min(a, F(1e4));
    let near = wg_log1p(c + c * c / (F(1.0) + sqrt(F(1.0) + c * c)));
    return sign(x) * select(near, log(a) + F(0.69314718056), a > F(1e4));
}

fn wg_acosh(x: F) -> F {
    let t = min(x, F(1e4)) - F(1.0);
    return select(wg_log1p(t + sqrt(t * (t + F(2.0)))), log(x) + F(0.69314718056), x > F(1e4));
}

fn wg_atanh(x: F) -> F {
    let a = abs(x);
    return sign(x) * F(0.5) * wg_log1p(F(2.0) * a / (F(1.0) - a));
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
