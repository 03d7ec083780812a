//! Several rules in one step: each group of parameters may have its own.
//!
//! Knows names and shapes of parameters, and nothing of how rules compute.

use super::{Operands, Optimizer, Slot, StepHyper, Updated};
use crate::error::{Error, Result};
use crate::nn::{ParameterSpec, Parameters};
use crate::shape::Shape;

/// Which rule updates which group of parameters: one for all, save the groups that have their own.
pub struct Optimizers {
    rest: Box<dyn Optimizer>,
    own: Vec<(String, Box<dyn Optimizer>)>,
}

impl Optimizers {
    /// One rule for every parameter.
    pub fn new(rule: impl Optimizer + 'static) -> Optimizers {
        Optimizers { rest: Box::new(rule), own: Vec::new() }
    }

    /// With another rule for the groups that have none of their own.
    pub fn rest(self, rule: impl Optimizer + 'static) -> Optimizers {
        Optimizers { rest: Box::new(rule), ..self }
    }

    /// With a rule of its own for a group (see [`Parameters::group_by`]); a later one wins.
    pub fn group(mut self, group: &str, rule: impl Optimizer + 'static) -> Optimizers {
        self.own.retain(|(name, _)| name != group);
        self.own.push((group.into(), Box::new(rule)));
        self
    }

    /// The rule of a group.
    pub fn of(&self, group: &str) -> &dyn Optimizer {
        self.own.iter().find(|(name, _)| name == group).map_or(&*self.rest, |(_, rule)| &**rule)
    }

    /// The rule of a parameter.
    pub fn of_parameter(&self, parameters: &Parameters, spec: &ParameterSpec) -> &dyn Optimizer {
        self.of(&parameters.groups()[spec.group].name)
    }

    /// Refuses options that cannot be meant, groups that no parameter is in, and parameters that their rule cannot update.
    pub fn check(&self, parameters: &Parameters) -> Result<()> {
        self.rest.check()?;
        for (group, rule) in &self.own {
            rule.check()?;
            let groups = parameters.groups();
            if !parameters.trainable().any(|spec| *groups[spec.group].name == **group) {
                let all: Vec<String> = groups.iter().map(|group| format!("`{}`", group.name)).collect();
                return Err(Error::config(format!(
                    "the optimizer {} is for the group `{group}`, in which no parameter is trained; the groups are {}",
                    rule.name(),
                    all.join(", ")
                )));
            }
        }
        for spec in parameters.trainable() {
            let rule = self.of_parameter(parameters, spec);
            if let Some(why) = rule.refuses(&spec.shape) {
                return Err(Error::config(format!(
                    "the optimizer {} cannot update `{}` {}: {why}; give the others a group of their own \
                     (`Parameters::group_by`) and that another optimizer",
                    rule.name(),
                    spec.name,
                    spec.shape
                )));
            }
        }
        Ok(())
    }
}

/// A rule that goes up: PyTorch's `maximize=True`. The loss is to be as large as possible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Maximize<O>(pub O);

impl<O: Optimizer> Optimizer for Maximize<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn slots(&self, shape: &Shape) -> Vec<Slot> {
        self.0.slots(shape)
    }

    fn scalars(&self) -> &'static [&'static str] {
        self.0.scalars()
    }

    fn scalar_values(&self, at: StepHyper) -> Vec<f64> {
        self.0.scalar_values(at)
    }

    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g> {
        self.0.update(Operands { gradient: -old.gradient, ..old })
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }

    fn refuses(&self, shape: &Shape) -> Option<&'static str> {
        self.0.refuses(shape)
    }
}
