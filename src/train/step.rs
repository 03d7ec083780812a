//! One training step, written as graphs: forward, loss, gradients; clip, update.
//!
//! Knows no device and runs nothing. The two halves meet only in the gradient states, so that
//! gradients may be accumulated, or reduced over machines, between them.

use super::accumulation;
use super::average;
use super::norms;
use super::scaler::{self, Guard};
use crate::autodiff;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, Tensor, TensorType};
use crate::nn::{ParameterSpec, Parameters};
use crate::optim::{Ema, LossScaling, Operands, Optimizer, Optimizers, Slot, clip_coefficient, global_norm};
use crate::program::{Category, StateSpec};
use crate::shape::Shape;

/// The output of the micro-step and of the evaluation: the mean loss, a scalar.
pub const LOSS: &str = "loss";
/// The output of the update if gradients are clipped: their global norm before that.
pub const GRAD_NORM: &str = "grad_norm";

/// How the names of the states with gradients begin.
pub(super) const GRADIENTS: &str = "grad/";

/// A model with its loss: writes the forward pass, from inputs that it declares, to a scalar.
pub type LossFn<'a> = dyn for<'g> Fn(&'g Graph) -> Tensor<'g> + 'a;

/// Forward, loss and gradients; each gradient goes into a state of its own. `scaled`: gradients are those of the loss
/// times the scale of loss scaling.
pub fn trace_micro_step(parameters: &Parameters, loss: &LossFn<'_>, scaled: bool) -> Result<Graph> {
    let graph = Graph::new();
    graph.set_training(true);
    let loss = loss(&graph);
    graph.output(LOSS, loss);
    let loss = if scaled { loss * scaler::scale(&graph) } else { loss };
    let weights: Vec<Tensor<'_>> = parameters.trainable().map(|spec| weight(&graph, spec)).collect();
    let gradients = autodiff::grad_of_parameters(loss, &weights)?;
    for (spec, gradient) in parameters.trainable().zip(gradients) {
        graph.assign(&gradient_name(&spec.name), gradient);
    }
    graph.error()?;
    Ok(graph)
}

/// What stands between the gradient states and the optimizer's rule.
#[derive(Debug, Clone, Default)]
pub struct UpdateOptions {
    /// Clips to this global norm; an infinite one only measures.
    pub max_norm: Option<f64>,
    /// The gradients are sums over micro-batches, which added to these states too.
    pub sums: Option<Vec<StateSpec>>,
    /// The gradients are scaled, and a step that overflowed is left out.
    pub scaling: Option<LossScaling>,
    /// A running mean of each parameter goes along.
    pub ema: Option<Ema>,
    /// Outputs the norm of each parameter and of its gradient.
    pub norms: bool,
}

/// Clipping and the optimizers' rules, each on the parameters of its groups.
pub fn trace_update(parameters: &Parameters, optimizers: &Optimizers, options: &UpdateOptions) -> Result<Graph> {
    let graph = Graph::new();
    let specs = in_order(parameters, optimizers);
    let gradients: Vec<Tensor<'_>> =
        specs.iter().map(|spec| graph.state(&gradient_name(&spec.name), &spec.shape, DType::F32)).collect();
    let share = options.sums.as_ref().map(|_| accumulation::share(&graph));
    let guard = options.scaling.and_then(|scaling| Guard::new(&graph, scaling, &gradients));
    let inverse = guard.as_ref().map(Guard::inverse);
    // From what lies in the states to gradients of the mean loss.
    let factor = [share, inverse].into_iter().flatten().reduce(|share, inverse| share * inverse);
    let mean = |x: Tensor<'_>| factor.map_or(x.value(), |factor| (x * factor).value());
    let mean = |x| Tensor::new(&graph, mean(x));
    let coefficient = options.max_norm.and_then(|max_norm| {
        graph.scope("clip", || {
            let norm = mean(global_norm(&gradients)?);
            graph.output(GRAD_NORM, norm);
            max_norm.is_finite().then(|| mean(clip_coefficient(norm, max_norm)))
        })
    });
    if options.norms {
        let weights: Vec<Tensor<'_>> = specs.iter().map(|spec| weight(&graph, spec)).collect();
        graph.scope("norms", || norms::output(&gradients, &weights, factor));
    }
    let coefficient = coefficient.or(factor);
    for (spec, gradient) in specs.into_iter().zip(gradients) {
        let gradient = coefficient.map_or(gradient, |coefficient| gradient * coefficient);
        let rule = optimizers.of_parameter(parameters, spec);
        graph.scope(rule.name(), || update(&graph, parameters, rule, spec, gradient, guard.as_ref(), options.ema));
        if options.sums.is_some() {
            accumulation::clear(&graph, spec, gradient);
        }
    }
    options.sums.iter().for_each(|sums| accumulation::clear_sums(&graph, sums));
    guard.into_iter().for_each(Guard::finish);
    graph.error()?;
    Ok(graph)
}

/// Forward and loss as in evaluation: no dropout.
pub fn trace_eval(loss: &LossFn<'_>) -> Result<Graph> {
    let graph = Graph::new();
    graph.output(LOSS, loss(&graph));
    graph.error()?;
    Ok(graph)
}

/// A rule on one parameter.
fn update<'g>(
    graph: &'g Graph,
    parameters: &Parameters,
    optimizer: &dyn Optimizer,
    spec: &ParameterSpec,
    gradient: Tensor<'g>,
    guard: Option<&Guard<'g>>,
    ema: Option<Ema>,
) {
    let own = optimizer.slots(&spec.shape);
    let slot_names: Vec<String> = own.iter().map(|slot| slot_name(optimizer, slot.name, &spec.name)).collect();
    let state = |(name, slot): (&String, &Slot)| graph.state(name, &slot.shape, slot.dtype);
    let slots: Vec<Tensor<'g>> = slot_names.iter().zip(&own).map(state).collect();
    let group = &parameters.groups()[spec.group].name;
    let scalar = |group: &str, name: &str| match guard {
        Some(guard) => guard.scalar(group, name),
        None => graph.input(&scalar_name(group, name), [], DType::F32),
    };
    let scalars: Vec<Tensor<'g>> = optimizer.scalars().iter().map(|name| scalar(group, name)).collect();
    let parameter = weight(graph, spec);
    let new = optimizer.update(Operands { parameter, gradient, slots: &slots, scalars: &scalars });
    let kept = |new, old| guard.map_or(new, |guard| guard.keep(new, old));
    graph.assign(&spec.name, kept(new.parameter, parameter));
    for ((name, slot), old) in slot_names.iter().zip(new.slots).zip(slots) {
        graph.assign(name, kept(slot, old));
    }
    if let Some(ema) = ema {
        let name = average::used_name(spec);
        let old = graph.state(&name, &spec.shape, DType::F32);
        let mean = ema.update(old, new.parameter, scalar(average::GROUP, average::SHARE));
        graph.assign(&name, kept(mean, old));
    }
}

/// Every state of a training session. Tensors that are updated alike are declared one after the other,
/// in the same order in each category, so that one dispatch can update them all.
pub fn state_specs(parameters: &Parameters, optimizers: &Optimizers) -> Vec<StateSpec> {
    let mut specs = Vec::new();
    let mut declare = |name: String, slot: (&Shape, DType), category: Category, group: String| {
        specs.push(StateSpec { name, ty: TensorType::new(slot.0, slot.1), category, group });
    };
    let trained = in_order(parameters, optimizers);
    let group = |spec: &ParameterSpec| parameters.groups()[spec.group].name.to_string();
    for spec in &trained {
        declare(spec.name.to_string(), (&spec.shape, DType::F32), Category::Weights, group(spec));
    }
    for spec in parameters.specs().iter().filter(|spec| !spec.trainable) {
        let (category, group) = if spec.buffer { (Category::Other, "buffers") } else { (Category::Weights, "frozen") };
        declare(spec.name.to_string(), (&spec.shape, DType::F32), category, group.into());
    }
    for spec in &trained {
        declare(gradient_name(&spec.name), (&spec.shape, DType::F32), Category::Gradients, group(spec));
    }
    // Slots of one name lie together: their buffers go by group and name.
    for spec in &trained {
        let rule = optimizers.of_parameter(parameters, spec);
        for Slot { name, shape, dtype } in rule.slots(&spec.shape) {
            let full = slot_name(rule, name, &spec.name);
            declare(full, (&shape, dtype), Category::Optimizer, format!("{}/{name}", group(spec)));
        }
    }
    specs
}

/// The states of a session that only applies a model: its weights and buffers.
pub fn weight_specs(parameters: &Parameters) -> Vec<StateSpec> {
    let spec = |spec: &ParameterSpec| {
        let (category, group) = if spec.buffer { (Category::Other, "buffers") } else { (Category::Weights, "weights") };
        StateSpec {
            name: spec.name.to_string(),
            ty: TensorType::new(&spec.shape, DType::F32),
            category,
            group: group.into(),
        }
    };
    parameters.specs().iter().map(spec).collect()
}

/// The trainable parameters, those that are updated alike together: of one group, and with the same slots.
pub(super) fn in_order<'p>(parameters: &'p Parameters, optimizers: &Optimizers) -> Vec<&'p ParameterSpec> {
    let mut specs: Vec<&ParameterSpec> = parameters.trainable().collect();
    let slots = |spec: &ParameterSpec| -> Vec<&'static str> {
        let rule = optimizers.of_parameter(parameters, spec);
        rule.slots(&spec.shape).iter().map(|slot| slot.name).collect()
    };
    crate::sort::sort_by_key(&mut specs, |spec| (spec.group, slots(spec)));
    specs
}

pub(super) fn weight<'g>(graph: &'g Graph, spec: &ParameterSpec) -> Tensor<'g> {
    graph.state(&spec.name, &spec.shape, DType::F32)
}

/// The state that holds a parameter's gradient.
pub fn gradient_name(parameter: &str) -> String {
    format!("{GRADIENTS}{parameter}")
}

/// The state that holds a parameter's slot of the optimizer.
pub fn slot_name(optimizer: &dyn Optimizer, slot: &str, parameter: &str) -> String {
    format!("{}.{slot}/{parameter}", optimizer.name())
}

/// The input that carries one of the optimizer's scalars for a group.
pub fn scalar_name(group: &str, scalar: &str) -> String {
    format!("{group}.{scalar}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::models::Mlp;
    use crate::optim::AdamW;
    use crate::program::StateLayout;

    fn parameters() -> (Parameters, Mlp) {
        let mut parameters = Parameters::new();
        let model = Mlp::new(&mut parameters, &[6, 5, 4, 3]);
        parameters.group_by("no_decay", |_, shape| shape.rank() < 2).weight_decay(0.0);
        (parameters, model)
    }

    #[test]
    fn states_that_are_updated_alike_lie_alike() -> Result<()> {
        let (mut parameters, _) = parameters();
        parameters.freeze(|name| name.starts_with("layer.1"));
        let specs = state_specs(&parameters, &Optimizers::new(AdamW::new()));
        assert_eq!(specs.len(), 6 + 3 * 4);
        let layout = StateLayout::build(&specs, 1 << 20)?;
        for spec in parameters.trainable() {
            let piece = |name: &str| layout.entries[name].pieces[0];
            let (weight, gradient) = (piece(&spec.name), piece(&gradient_name(&spec.name)));
            let moments = ["m", "v"].map(|slot| piece(&slot_name(&AdamW::new(), slot, &spec.name)));
            for other in [gradient, moments[0], moments[1]] {
                assert_eq!((weight.offset, weight.bytes), (other.offset, other.bytes), "{}", spec.name);
            }
            assert_ne!(moments[0].buffer, moments[1].buffer);
        }
        Ok(())
    }

    #[test]
    fn a_frozen_parameter_has_no_gradient_and_no_update() -> Result<()> {
        let (mut parameters, model) = parameters();
        parameters.freeze(|name| name == "layer.0.weight");
        let loss: &LossFn<'_> = &|graph: &Graph| {
            let x = graph.input("x", [2, 6], DType::F32);
            model.forward(x).cross_entropy(graph.input("y", [2], DType::I32))
        };
        let micro = trace_micro_step(&parameters, loss, false)?;
        assert!(!micro.to_text().contains("grad/layer.0.weight"));
        assert!(micro.to_text().contains("grad/layer.0.bias"));
        let update = trace_update(
            &parameters,
            &Optimizers::new(AdamW::new()),
            &UpdateOptions { max_norm: Some(1.0), ..UpdateOptions::default() },
        )?;
        assert!(!update.to_text().contains("layer.0.weight"));
        assert_eq!(update.outputs().len(), 1);
        Ok(())
    }
}
