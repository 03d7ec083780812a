//! Normalisation layers over channels: batch norm with its running statistics, group norm and instance norm.
//!
//! Tensors are `[samples, channels, ..]` of any rank from 2 on, so that one layer serves for PyTorch's 1d, 2d
//! and 3d forms. Names of parameters and buffers are PyTorch's.

use super::param::{Buffer, Init, Param, Parameters};
use crate::graph::Tensor;
use crate::tensor::BatchNormed;
use std::sync::Arc;

/// The options of `torch.nn.BatchNorm1d` and its kin, with their defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormConfig {
    /// Added to the variance; 1e-5.
    pub eps: f32,
    /// Share of the new batch in the running statistics, 0.1; `None` averages over all batches equally.
    pub momentum: Option<f64>,
    /// Whether there are a gain and a bias.
    pub affine: bool,
    /// Whether running statistics are kept. Without them evaluation uses those of its batch.
    pub track_running_stats: bool,
}

impl Default for BatchNormConfig {
    fn default() -> BatchNormConfig {
        BatchNormConfig { eps: 1e-5, momentum: Some(0.1), affine: true, track_running_stats: true }
    }
}

/// What a batch norm remembers of the batches that it was trained on.
#[derive(Debug, Clone)]
pub struct RunningStatistics {
    pub mean: Buffer,
    /// Of the unbiased variance (divided by one less than the number of elements), as PyTorch keeps it.
    pub variance: Buffer,
    /// Batches seen, kept only where `momentum` is `None`.
    pub batches: Option<Buffer>,
}

/// Normalisation of each channel over the batch; `torch.nn.BatchNorm1d`, `2d` and `3d`. Training uses the
/// statistics of the batch and updates the running ones, evaluation uses the running ones.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    name: Arc<str>,
    pub weight: Option<Param>,
    pub bias: Option<Param>,
    pub running: Option<RunningStatistics>,
    pub config: BatchNormConfig,
}

impl BatchNorm {
    /// With PyTorch's defaults.
    pub fn new(parameters: &mut Parameters, name: &str, channels: usize) -> BatchNorm {
        BatchNorm::with(parameters, name, channels, BatchNormConfig::default())
    }

    /// With other options.
    pub fn with(parameters: &mut Parameters, name: &str, channels: usize, config: BatchNormConfig) -> BatchNorm {
        parameters.scope(name, |p| BatchNorm {
            name: name.into(),
            weight: config.affine.then(|| p.add("weight", [channels], Init::Ones)),
            bias: config.affine.then(|| p.add("bias", [channels], Init::Zeros)),
            running: config.track_running_stats.then(|| RunningStatistics {
                mean: p.buffer("running_mean", [channels], Init::Zeros),
                variance: p.buffer("running_var", [channels], Init::Ones),
                batches: config.momentum.is_none().then(|| p.buffer("num_batches_tracked", [], Init::Zeros)),
            }),
            config,
        })
    }

    /// `[samples, channels, ..]` to the same shape.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let graph = x.graph();
        graph.scope(&self.name, || {
            let gain = self.weight.as_ref().map(|weight| weight.tensor(graph));
            let bias = self.bias.as_ref().map(|bias| bias.tensor(graph));
            match &self.running {
                Some(running) if !graph.is_training() => {
                    let (mean, variance) = (running.mean.tensor(graph), running.variance.tensor(graph));
                    x.batch_norm(mean, variance, gain, bias, self.config.eps)
                }
                running => {
                    let normed = x.batch_norm_train(gain, bias, self.config.eps);
                    if let Some(running) = running {
                        running.update(&normed, self.config.momentum);
                    }
                    normed.output
                }
            }
        })
    }
}

impl RunningStatistics {
    /// Mixes in the statistics of a batch.
    #[track_caller]
    fn update(&self, batch: &BatchNormed<'_>, momentum: Option<f64>) {
        let graph = batch.mean.graph();
        let (old_mean, old_variance) = (self.mean.tensor(graph), self.variance.tensor(graph));
        let [mean, variance] = match (&self.batches, momentum) {
            (Some(batches), None) => {
                let seen = batches.tensor(graph) + 1.0;
                batches.update(seen);
                batch.running(old_mean, old_variance, seen.reciprocal())
            }
            (_, momentum) => batch.running(old_mean, old_variance, momentum.unwrap_or(1.0)),
        };
        self.mean.update(mean);
        self.variance.update(variance);
    }
}

/// Normalisation of groups of channels of each sample; `torch.nn.GroupNorm`, eps 1e-5.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    name: Arc<str>,
    pub groups: usize,
    pub weight: Option<Param>,
    pub bias: Option<Param>,
    pub eps: f32,
}

impl GroupNorm {
    /// With a gain and a bias.
    pub fn new(parameters: &mut Parameters, name: &str, groups: usize, channels: usize) -> GroupNorm {
        let vector = |p: &mut Parameters, name: &str, init| Some(p.add(name, [channels], init));
        parameters.scope(name, |p| GroupNorm {
            weight: vector(p, "weight", Init::Ones),
            bias: vector(p, "bias", Init::Zeros),
            ..GroupNorm::without_affine(name, groups)
        })
    }

    /// Without them.
    pub fn without_affine(name: &str, groups: usize) -> GroupNorm {
        GroupNorm { name: name.into(), groups, weight: None, bias: None, eps: 1e-5 }
    }

    /// `[samples, channels, ..]` to the same shape.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let graph = x.graph();
        let vector = |param: &Option<Param>| param.as_ref().map(|param| param.tensor(graph));
        graph.scope(&self.name, || x.group_norm(self.groups, vector(&self.weight), vector(&self.bias), self.eps))
    }
}

/// Normalisation of each channel of each sample; `torch.nn.InstanceNorm1d`, `2d` and `3d`. Without gain and bias,
/// and without running statistics, unless they are asked for.
#[derive(Debug, Clone)]
pub struct InstanceNorm {
    name: Arc<str>,
    pub weight: Option<Param>,
    pub bias: Option<Param>,
    pub running: Option<RunningStatistics>,
    pub config: BatchNormConfig,
}

impl InstanceNorm {
    /// With PyTorch's defaults: nothing to train and nothing to remember.
    pub fn new(parameters: &mut Parameters, name: &str, channels: usize) -> InstanceNorm {
        let config = BatchNormConfig { affine: false, track_running_stats: false, ..BatchNormConfig::default() };
        InstanceNorm::with(parameters, name, channels, config)
    }

    /// With other options.
    pub fn with(parameters: &mut Parameters, name: &str, channels: usize, config: BatchNormConfig) -> InstanceNorm {
        let BatchNorm { name, weight, bias, running, config } = BatchNorm::with(parameters, name, channels, config);
        InstanceNorm { name, weight, bias, running, config }
    }

    /// `[samples, channels, ..]` to the same shape.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let graph = x.graph();
        graph.scope(&self.name, || {
            let gain = self.weight.as_ref().map(|weight| weight.tensor(graph));
            let bias = self.bias.as_ref().map(|bias| bias.tensor(graph));
            match &self.running {
                Some(running) if !graph.is_training() => x.batch_norm(
                    running.mean.tensor(graph),
                    running.variance.tensor(graph),
                    gain,
                    bias,
                    self.config.eps,
                ),
                Some(running) => {
                    let normed = x.instance_norm_train(gain, bias, self.config.eps);
                    running.update(&normed, self.config.momentum);
                    normed.output
                }
                None => x.instance_norm(gain, bias, self.config.eps),
            }
        })
    }
}
