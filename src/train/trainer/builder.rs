//! How a trainer is described: what is trained by which rule, and what else a step does; and how that becomes programs.
//!
//! Knows what can be asked for, and the graphs that come of it; running them is the parent's affair.

use super::super::accumulation::{sums, trace_micro_batch};
use super::super::average;
use super::super::budget::{Budget, Saved, fit};
use super::super::compiled::{Compiled, checksum};
use super::super::norms;
use super::super::plan::Plan;
use super::super::precision::Precision;
use super::super::scaler;
use super::super::step::{
    GRADIENTS, LOSS, LossFn, UpdateOptions, state_specs, trace_eval, trace_micro_step, trace_update,
};
use super::super::watch::watch;
use super::{MICRO, Trainer, memory};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::{Device, Session};
use crate::graph::{Graph, Tensor};
use crate::kernels::Profile;
use crate::lower::{Recompute, Tunable, pack, recompute, unpacked};
use crate::nn::Parameters;
use crate::optim::{AdamW, Ema, LossScaling, Optimizer, Optimizers, Plateau, PlateauState, Schedule};
use crate::passes::save_in_half;
use crate::program::{Program, StateLayout, lifetimes};
use std::collections::HashSet;

/// The names of a trainer's programs.
const PROGRAMS: [&str; 3] = ["micro", "update", "eval"];

/// How to train; [`TrainerBuilder::build`] makes it real.
pub struct TrainerBuilder {
    parameters: Parameters,
    optimizers: Optimizers,
    schedule: Schedule,
    plateau: Option<Plateau>,
    clip: Option<f64>,
    ema: Option<Ema>,
    seed: u64,
    accumulate: usize,
    /// `None`: what the precision wants.
    scaling: Option<Option<LossScaling>>,
    precision: Precision,
    /// The type in which activations wait for their gradients, where it is not that of the precision.
    saved: Option<DType>,
    recompute: Recompute,
    memory: Option<Budget>,
    norms: bool,
    watched: bool,
}

impl TrainerBuilder {
    /// The update rule; AdamW without further word.
    pub fn optimizer(self, optimizer: impl Optimizer + 'static) -> TrainerBuilder {
        TrainerBuilder { optimizers: self.optimizers.rest(optimizer), ..self }
    }

    /// A rule of its own for one group of parameters (see [`Parameters::group_by`]): several optimizers in one step.
    pub fn optimizer_of(self, group: &str, optimizer: impl Optimizer + 'static) -> TrainerBuilder {
        TrainerBuilder { optimizers: self.optimizers.group(group, optimizer), ..self }
    }

    /// The learning rate: a number, or a [`Schedule`]. 1e-3 without further word.
    pub fn lr(self, schedule: impl Into<Schedule>) -> TrainerBuilder {
        TrainerBuilder { schedule: schedule.into(), ..self }
    }

    /// Lowers the learning rate further when what [`Trainer::observe`] is told stops getting better. Off without further
    /// word.
    pub fn plateau(self, plateau: Plateau) -> TrainerBuilder {
        TrainerBuilder { plateau: Some(plateau), ..self }
    }

    /// Keeps a running mean of the weights beside them, in f32, which the update computes along. Evaluation is that of the
    /// mean, and [`Trainer::averaged_weights`] gives it; training goes on with the weights themselves. Buffers, such as
    /// running statistics, are those of the training. Costs as much memory as the weights. Off without further word.
    pub fn ema(self, ema: Ema) -> TrainerBuilder {
        TrainerBuilder { ema: Some(ema), ..self }
    }

    /// Clips gradients to this global norm and reports the norm before that; `f64::INFINITY` only reports it.
    pub fn clip(self, max_norm: f64) -> TrainerBuilder {
        TrainerBuilder { clip: Some(max_norm), ..self }
    }

    /// The seed of first values and dropout; 0 without further word.
    pub fn seed(self, seed: u64) -> TrainerBuilder {
        TrainerBuilder { seed, ..self }
    }

    /// A step's batch may have up to this many times the rows that the loss function declares its inputs with: it is
    /// split into micro-batches, whose gradients are added up before the update. Memory is that of one micro-batch, and
    /// the step that of the whole batch: gradients are means over all its samples (or tokens, see
    /// [`Tensor::with_count`]), and dropout does not depend on the split. Batch norm does: its statistics are those
    /// of a micro-batch, and running statistics are updated once for each. 1 without further word.
    pub fn accumulate(self, micro_batches: usize) -> TrainerBuilder {
        TrainerBuilder { accumulate: micro_batches.max(1), ..self }
    }

    /// In what type products, convolutions and attention read their operands, and activations wait for their gradients;
    /// everything else is computed in f32, and weights stay f32. With [`Precision::F16`] losses are scaled unless
    /// `loss_scaling(None)` says otherwise. The evaluation's forward pass is in the same precision. f32 without further
    /// word.
    pub fn precision(self, precision: Precision) -> TrainerBuilder {
        TrainerBuilder { precision, ..self }
    }

    /// Multiplies the loss before it is differentiated, leaves out steps whose gradients overflow, and adapts the
    /// factor, all on the device. Schedules count every step, the optimizer's rule only those that were made. Without
    /// further word losses are scaled in f16 only; `None` turns that off.
    pub fn loss_scaling(self, scaling: impl Into<Option<LossScaling>>) -> TrainerBuilder {
        TrainerBuilder { scaling: Some(scaling.into()), ..self }
    }

    /// Saves what the forward pass leaves for the gradients as f16 or bf16, for gradients of rounded operands. Everything
    /// is computed in f32, and losses, statistics and weights stay as they are. What it is worth depends on the
    /// model, see [`Plan::memory`]: deep ones need less memory, flat ones may need more, for the copies in f32. The type of
    /// the [`TrainerBuilder::precision`] without further word.
    pub fn save_activations(self, dtype: DType) -> TrainerBuilder {
        TrainerBuilder { saved: Some(dtype), ..self }
    }

    /// The type in which activations wait for their gradients.
    fn saved(&self) -> DType {
        self.saved.unwrap_or(self.precision.dtype())
    }

    /// How losses are scaled, if at all.
    fn scaling(&self) -> Option<LossScaling> {
        self.scaling.unwrap_or((self.precision == Precision::F16).then(LossScaling::default))
    }

    /// Computes activations twice instead of keeping them for the gradients: less memory for more time, not one bit
    /// changed. What [`Graph::checkpoint`] marks is computed twice in any case. [`Recompute::None`] without further word.
    pub fn recompute(self, recompute: Recompute) -> TrainerBuilder {
        TrainerBuilder { recompute, ..self }
    }

    /// Makes the step fit into so much device memory, or says why that cannot be: activations are computed twice as far as
    /// needed ([`TrainerBuilder::recompute`], no bit changes), and saved in bf16 where that is not enough
    /// and [`TrainerBuilder::save_activations`] says nothing else. [`Plan::fitted`] says what was chosen and what it costs.
    pub fn memory(self, budget: Budget) -> TrainerBuilder {
        TrainerBuilder { memory: Some(budget), ..self }
    }

    /// Computes the norm of each trained parameter and of its gradient in every step, for [`super::StepReport::norms`]. A
    /// few launches for all of them, which change no bit of what is trained. Off without further word.
    pub fn norms(self, norms: bool) -> TrainerBuilder {
        TrainerBuilder { norms, ..self }
    }

    /// Counts in every value of a step the elements that are not finite; see [`super::watch`]. Slow, and for
    /// finding a mistake.
    pub fn watched(self) -> TrainerBuilder {
        TrainerBuilder { watched: true, ..self }
    }

    /// What will be trained.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The three graphs of a step: micro-step, update, evaluation.
    pub fn trace(&self, loss: &LossFn<'_>) -> Result<[Graph; 3]> {
        self.traced(loss, self.saved())
    }

    /// Errors: what cannot be trained, whatever the loss.
    fn check(&self) -> Result<()> {
        self.parameters.check()?;
        if self.parameters.trainable().next().is_none() {
            return Err(Error::config("there is no parameter to train: none was added, or all are frozen".into()));
        }
        self.schedule.check()?;
        self.plateau.iter().try_for_each(Plateau::check)?;
        self.ema.iter().try_for_each(Ema::check)?;
        self.optimizers.check(&self.parameters)?;
        if let Some(max_norm) = self.clip
            && max_norm.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater)
        {
            return Err(Error::config(format!("gradients must be clipped to a positive norm, got {max_norm}")));
        }
        Ok(())
    }

    /// A number for what a step is compiled to do, that [`Compiled`] is of the same. What the state's tensors say is left to them.
    fn kind(&self) -> u64 {
        let (ema, scaling) = (self.ema.as_ref(), self.scaling());
        let reals = [
            self.clip,
            ema.map(|ema| ema.decay),
            scaling.map(|scaling| scaling.growth_factor),
            scaling.map(|scaling| scaling.backoff_factor),
        ];
        let words = [
            self.accumulate as u64,
            self.precision as u64,
            self.saved() as u64,
            u64::from(self.norms),
            u64::from(ema.is_some_and(|ema| ema.warm_up)),
            scaling.map_or(0, |scaling| scaling.growth_interval as u64),
        ];
        let reals = reals.map(|real| real.map_or(0, f64::to_bits));
        let bytes: Vec<u8> = words.iter().chain(&reals).flat_map(|word| word.to_le_bytes()).collect();
        checksum(&bytes)
    }

    fn traced(&self, loss: &LossFn<'_>, saved: DType) -> Result<[Graph; 3]> {
        self.check()?;
        let (parameters, scaling) = (&self.parameters, self.scaling());
        let scaled = scaling.is_some();
        let (micro, sums) = match self.accumulate {
            1 => (trace_micro_step(parameters, loss, scaled)?, None),
            _ => {
                let micro = trace_micro_batch(parameters, loss, scaled)?;
                let sums = sums(&micro);
                (micro, Some(sums))
            }
        };
        let micro = self.precision.apply(micro);
        let micro = match saved {
            DType::F16 | DType::BF16 => save_in_half(&micro, LOSS, GRADIENTS, saved),
            DType::F32 => micro,
            other => {
                return Err(Error::config(format!("activations are saved in f32, f16 or bf16, not in {other}")));
            }
        };
        let options =
            UpdateOptions { max_norm: self.clip, sums, scaling, ema: self.ema, norms: !crate::PAGE && self.norms };
        let update = trace_update(parameters, &self.optimizers, &options)?;
        if !crate::PAGE && self.watched {
            watch(&micro, "1 forward and gradients");
            watch(&update, "2 update");
        }
        let eval = trace_eval(loss)?;
        let eval = if self.ema.is_some() { average::averaged(&eval, parameters) } else { eval };
        Ok([micro, update, self.precision.apply(eval)])
    }

    /// What a step (and an evaluation) computes on a device with this profile by kernels of which there are several, and how
    /// often: what [`super::super::tune`] measures.
    pub fn tunable(&self, profile: &Profile, loss: &LossFn<'_>) -> Result<Tunable> {
        let graphs = self.trace(loss)?;
        let layout = self.layout(&graphs, profile)?;
        let mut all = Tunable::default();
        for graph in &graphs {
            all.add(Tunable::of(graph, &layout, profile)?);
        }
        Ok(all)
    }

    fn layout(&self, graphs: &[Graph; 3], profile: &Profile) -> Result<StateLayout> {
        let mut specs = state_specs(&self.parameters, &self.optimizers);
        specs.extend(self.ema.iter().flat_map(|_| average::specs(&self.parameters, &self.optimizers)));
        specs.extend(sums(&graphs[MICRO]));
        specs.extend(self.scaling().iter().flat_map(|_| scaler::specs()));
        StateLayout::build(&specs, profile.max_binding_bytes)
    }

    /// Compiles for a device with this profile, which need not be there.
    pub fn plan(&self, profile: &Profile, loss: impl for<'g> Fn(&'g Graph) -> Tensor<'g>) -> Result<Plan> {
        let make = |recompute, saved| self.compiled(profile, &loss, recompute, saved);
        let Some(budget) = self.memory.filter(|_| !crate::PAGE) else { return make(self.recompute, self.saved()) };
        let saved = Saved { dtype: self.saved(), fixed: self.saved.is_some() };
        let (plan, fitted) = fit(budget.bytes(profile), self.recompute, saved, &make)?;
        Ok(Plan { fitted: Some(fitted), ..plan })
    }

    fn compiled(&self, profile: &Profile, loss: &LossFn<'_>, again: Recompute, saved: DType) -> Result<Plan> {
        let graphs = self.traced(loss, saved)?;
        let layout = self.layout(&graphs, profile)?;
        let mut programs = PROGRAMS
            .into_iter()
            .zip(&graphs)
            .map(|(name, graph)| unpacked(name, graph, &layout, profile))
            .collect::<Result<Vec<Program>>>()?;
        let recomputed = recompute(&mut programs[MICRO], again, profile);
        let lifetimes = programs.iter().map(lifetimes).collect();
        pack(&mut programs, profile);
        let memory = Session::plan(&layout, &programs);
        Ok(Plan { layout, programs, memory, lifetimes, recomputed, fitted: None, kind: self.kind() })
    }

    /// Traces, compiles and allocates, and gives the parameters their first values.
    pub fn build(self, device: &Device, loss: impl for<'g> Fn(&'g Graph) -> Tensor<'g>) -> Result<Trainer> {
        let compiled = self.plan(device.profile(), loss)?.into();
        self.start(device, compiled)
    }

    /// Like [`TrainerBuilder::build`] without tracing and compiling: with what [`Trainer::compiled`] gave for the same description,
    /// loss and kind of device. Errors: it is of another model or another way to train, as far as that can be seen without tracing, or
    /// this device cannot run it.
    pub fn build_compiled(self, device: &Device, compiled: Compiled) -> Result<Trainer> {
        self.check()?;
        let other = |what: &str| {
            Error::config(format!("the compiled step is of another model or description: {what}; compile it again"))
        };
        let names = compiled.programs.iter().map(|program| program.name.as_str());
        if !names.eq(PROGRAMS) || compiled.kind != self.kind() {
            return Err(other("it clips, averages, scales, rounds or adds up otherwise"));
        }
        for spec in state_specs(&self.parameters, &self.optimizers) {
            let entry = compiled.layout.entries.get(&spec.name);
            if entry.is_none_or(|entry| entry.dtype != spec.ty.dtype || entry.shape != spec.ty.shape) {
                return Err(other(&format!("it has no `{}` {}", spec.name, spec.ty)));
            }
        }
        self.start(device, compiled)
    }

    fn start(self, device: &Device, compiled: Compiled) -> Result<Trainer> {
        let Compiled { layout, programs, alive, fitted, kind } = compiled;
        let session = memory::session(device, layout, programs, fitted)?;
        let scaling = self.scaling();
        let normed =
            if !crate::PAGE && self.norms { norms::names(&self.parameters, &self.optimizers) } else { Vec::new() };
        let TrainerBuilder { parameters, optimizers, schedule, plateau, seed, clip, ema, accumulate, .. } = self;
        let mut trainer = Trainer {
            parameters,
            optimizers,
            schedule,
            plateau: plateau.map(|plateau| (plateau, PlateauState::new(&plateau))),
            seed,
            ema,
            normed,
            clipped: clip.is_some(),
            accumulate,
            scaling,
            scaled: None,
            fitted,
            alive,
            kind,
            session,
            step: 0,
            samples: 0,
            added: 0,
            lr_scale: 1.0,
            fed: [HashSet::new(), HashSet::new(), HashSet::new()],
        };
        trainer.initialise()?;
        Ok(trainer)
    }
}

impl Trainer {
    /// Begins to describe how these parameters are trained.
    pub fn builder(parameters: Parameters) -> TrainerBuilder {
        let optimizers = Optimizers::new(AdamW::new());
        let schedule = Schedule::from(1e-3);
        TrainerBuilder {
            parameters,
            optimizers,
            schedule,
            plateau: None,
            clip: None,
            ema: None,
            seed: 0,
            accumulate: 1,
            scaling: None,
            precision: Precision::F32,
            saved: None,
            recompute: Recompute::None,
            memory: None,
            norms: false,
            watched: false,
        }
    }
}
