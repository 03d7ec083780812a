//! The registry of a model's parameters: names, shapes, first values, groups.
//!
//! It is filled while layers are built and knows nothing about graphs beyond [`Param::tensor`], and
//! nothing about optimizers beyond the numbers that a group carries for them.

pub use super::init::Init;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, Tensor};
use crate::random::Stream;
use crate::shape::Shape;
use std::sync::Arc;

/// A named tensor that is trained.
#[derive(Debug, Clone)]
pub struct Param {
    name: Arc<str>,
    shape: Shape,
}

impl Param {
    /// The full name, such as `block.0.attn.qkv.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameter's shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its value (f32) in a graph.
    #[track_caller]
    pub fn tensor<'g>(&self, graph: &'g Graph) -> Tensor<'g> {
        graph.state(&self.name, &self.shape, DType::F32)
    }
}

/// A named tensor that is not trained but updated by the forward pass itself, such as a running mean; PyTorch's
/// buffer. It is saved and restored with the parameters; no optimizer, clipping or weight decay touches it.
#[derive(Debug, Clone)]
pub struct Buffer {
    name: Arc<str>,
    shape: Shape,
}

impl Buffer {
    /// The full name, such as `bn1.running_mean`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The buffer's shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its value (f32) at this point of the trace, through which no gradient passes: what the step starts with, or
    /// what an earlier [`Buffer::update`] in the same graph gave it.
    #[track_caller]
    pub fn tensor<'g>(&self, graph: &'g Graph) -> Tensor<'g> {
        graph.latest(&self.name, &self.shape, DType::F32)
    }

    /// Gives it a new value when the step ends. Does nothing in a graph for evaluation ([`Graph::is_training`]).
    #[track_caller]
    pub fn update(&self, value: Tensor<'_>) {
        let graph = value.graph();
        if graph.is_training() {
            graph.state(&self.name, &self.shape, DType::F32);
            graph.reassign(&self.name, value.stop_gradient());
        }
    }
}

/// What is known about one parameter.
#[derive(Debug, Clone)]
pub struct ParameterSpec {
    pub name: Arc<str>,
    pub shape: Shape,
    pub init: Init,
    /// Index into [`Parameters::groups`].
    pub group: usize,
    /// A frozen parameter keeps its value: no gradient, no optimizer state.
    pub trainable: bool,
    /// A [`Buffer`], which is never trainable.
    pub buffer: bool,
}

/// Parameters that are updated alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub name: Arc<str>,
    /// Multiplies the schedule's learning rate.
    pub lr_scale: f64,
    /// In place of the optimizer's weight decay.
    pub weight_decay: Option<f64>,
}

impl Group {
    fn new(name: &str) -> Group {
        Group { name: name.into(), lr_scale: 1.0, weight_decay: None }
    }

    /// Sets the factor on the learning rate.
    pub fn lr_scale(&mut self, scale: f64) -> &mut Group {
        self.lr_scale = scale;
        self
    }

    /// Sets the weight decay of this group.
    pub fn weight_decay(&mut self, decay: f64) -> &mut Group {
        self.weight_decay = Some(decay);
        self
    }
}

/// All parameters of a model, in the order in which its layers were built.
#[derive(Debug, Clone)]
pub struct Parameters {
    specs: Vec<ParameterSpec>,
    groups: Vec<Group>,
    scope: String,
    error: Option<Error>,
}

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters::new()
    }
}

impl Parameters {
    /// No parameters yet, and one group called `default`.
    pub fn new() -> Parameters {
        Parameters { specs: Vec::new(), groups: vec![Group::new("default")], scope: String::new(), error: None }
    }

    /// Adds a parameter under the current scope. A name that is taken is reported by
    /// [`Parameters::check`], so that building a model needs no `?`.
    pub fn add(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Param {
        let (name, shape) = self.register(name, shape.into(), init, false);
        Param { name, shape }
    }

    /// Adds a [`Buffer`] under the current scope: state of the forward pass that no optimizer touches.
    pub fn buffer(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Buffer {
        let (name, shape) = self.register(name, shape.into(), init, true);
        Buffer { name, shape }
    }

    fn register(&mut self, name: &str, shape: Shape, init: Init, buffer: bool) -> (Arc<str>, Shape) {
        let name: Arc<str> = join(&self.scope, name).into();
        if self.specs.iter().any(|spec| spec.name == name) {
            let message = format!("two parameters are called `{name}`; give their layers different names or scopes");
            self.error.get_or_insert(Error::config(message));
        }
        let (trainable, spec_shape) = (!buffer, shape.clone());
        self.specs.push(ParameterSpec { name: name.clone(), shape: spec_shape, init, group: 0, trainable, buffer });
        (name, shape)
    }

    /// Runs `body` with `name` before the names of what it adds: `block.0`, then `block.0.attn`.
    pub fn scope<R>(&mut self, name: &str, body: impl FnOnce(&mut Parameters) -> R) -> R {
        let inner = join(&self.scope, name);
        let outer = std::mem::replace(&mut self.scope, inner);
        let result = body(self);
        self.scope = outer;
        result
    }

    /// Moves the parameters for which `rule(name, shape)` holds into the group `name`, and gives
    /// that group to be set up. A later rule wins over an earlier one.
    ///
    /// ```
    /// # let mut parameters = wgrad::nn::Parameters::new();
    /// parameters.group_by("no_decay", |_, shape| shape.rank() < 2).weight_decay(0.0);
    /// ```
    pub fn group_by(&mut self, name: &str, rule: impl Fn(&str, &Shape) -> bool) -> &mut Group {
        let index = match self.groups.iter().position(|group| &*group.name == name) {
            Some(index) => index,
            None => {
                self.groups.push(Group::new(name));
                self.groups.len() - 1
            }
        };
        for spec in self.specs.iter_mut().filter(|spec| rule(&spec.name, &spec.shape)) {
            spec.group = index;
        }
        &mut self.groups[index]
    }

    /// Freezes the parameters for which `rule(name)` holds.
    pub fn freeze(&mut self, rule: impl Fn(&str) -> bool) {
        for spec in self.specs.iter_mut().filter(|spec| rule(&spec.name)) {
            spec.trainable = false;
        }
    }

    /// Changes the first values of the parameters for which `rule(name, shape)` gives some. Buffers keep theirs.
    pub fn init_by(&mut self, rule: impl Fn(&str, &Shape) -> Option<Init>) {
        for spec in self.specs.iter_mut().filter(|spec| !spec.buffer) {
            if let Some(init) = rule(&spec.name, &spec.shape) {
                spec.init = init;
            }
        }
    }

    /// All parameters and buffers.
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// The parameters that are not frozen.
    pub fn trainable(&self) -> impl Iterator<Item = &ParameterSpec> {
        self.specs.iter().filter(|spec| spec.trainable)
    }

    /// All groups; the first is `default`.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Number of scalars in all parameters, frozen ones too; buffers are none.
    pub fn count(&self) -> usize {
        self.specs.iter().filter(|spec| !spec.buffer).map(|spec| spec.shape.numel()).sum()
    }

    /// The first thing that went wrong while the model was built.
    pub fn check(&self) -> Result<()> {
        self.error.clone().map_or(Ok(()), Err)
    }

    /// The first values of parameter number `ordinal`; they depend on the seed and that number only.
    pub fn initial_values(&self, ordinal: usize, seed: u64) -> Result<Vec<f32>> {
        let spec = self.specs.get(ordinal).ok_or_else(|| {
            Error::config(format!("there is no parameter number {ordinal}; the model has {}", self.specs.len()))
        })?;
        let values = spec.init.values(&spec.shape, &Stream::new(seed, ordinal as u32));
        values
            .map_err(|message| Error::config(format!("the first values of `{}` {}: {message}", spec.name, spec.shape)))
    }
}

fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_string() } else { format!("{scope}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_make_names_and_a_name_is_taken_once() {
        let mut parameters = Parameters::new();
        let weight = parameters.scope("block.0", |p| p.scope("attn", |p| p.add("weight", [2, 3], Init::Ones)));
        assert_eq!((weight.name(), parameters.count()), ("block.0.attn.weight", 6));
        assert!(parameters.check().is_ok());
        parameters.add("block.0.attn.weight", [1], Init::Zeros);
        assert!(parameters.check().unwrap_err().to_string().contains("block.0.attn.weight"));
    }

    #[test]
    fn values_depend_on_seed_and_ordinal_only() -> Result<()> {
        let mut parameters = Parameters::new();
        parameters.add("a", [4], Init::Uniform(0.5));
        parameters.add("b", [4], Init::Uniform(0.5));
        let [a, b] = [parameters.initial_values(0, 7)?, parameters.initial_values(1, 7)?];
        assert_ne!(a, b);
        assert_eq!(a, parameters.initial_values(0, 7)?);
        assert_ne!(a, parameters.initial_values(0, 8)?);
        assert!(a.iter().all(|x| x.abs() <= 0.5));
        parameters.init_by(|name, _| (name == "a").then(|| Init::Values([1.0, 2.0].into())));
        let message = parameters.initial_values(0, 7).unwrap_err().to_string();
        assert!(message.contains("`a` [4]: it has 4 elements but is given 2"), "{message}");
        Ok(())
    }

    #[test]
    fn buffers_are_registered_but_neither_counted_nor_trained() -> Result<()> {
        let mut parameters = Parameters::new();
        parameters.add("weight", [2], Init::Ones);
        let mean = parameters.scope("bn", |p| p.buffer("running_mean", [3], Init::Zeros));
        parameters.init_by(|_, _| Some(Init::Uniform(1.0)));
        assert_eq!((mean.name(), mean.shape()), ("bn.running_mean", &Shape::from([3])));
        assert_eq!((parameters.count(), parameters.trainable().count(), parameters.specs().len()), (2, 1, 2));
        assert_eq!(parameters.initial_values(1, 0)?, [0.0; 3]);
        Ok(())
    }

    #[test]
    fn a_buffer_is_updated_in_training_only_and_later_reads_see_the_update() {
        let mut parameters = Parameters::new();
        let count = parameters.buffer("count", [], Init::Zeros);
        let graph = Graph::new();
        count.update(count.tensor(&graph) + 1.0);
        assert!(!graph.to_text().contains("assign"));
        graph.set_training(true);
        count.update(count.tensor(&graph) + 1.0);
        count.update(count.tensor(&graph) * 2.0);
        let text = graph.to_text();
        assert_eq!(
            (text.matches("assign").count(), text.matches("add").count(), text.matches("mul").count()),
            (1, 1, 1)
        );
        graph.error().unwrap();
        count.update(graph.float(1.0).broadcast_to([2]));
        assert!(graph.error().unwrap_err().to_string().contains("count"));
    }

    #[test]
    fn rules_group_and_freeze() {
        let mut parameters = Parameters::new();
        parameters.add("weight", [2, 2], Init::Zeros);
        parameters.add("bias", [2], Init::Zeros);
        parameters.group_by("no_decay", |_, shape| shape.rank() < 2).weight_decay(0.0).lr_scale(0.5);
        parameters.freeze(|name| name == "weight");
        let bias = &parameters.specs()[1];
        assert_eq!(parameters.groups()[bias.group].weight_decay, Some(0.0));
        assert_eq!(parameters.trainable().map(|spec| &*spec.name).collect::<Vec<_>>(), ["bias"]);
    }
}
