//! What is noted of a step: its record, what an evaluation found, the best weights.

use super::{Evaluation, Event, Run, due};
use crate::error::Result;
use crate::gpu::Results;
use crate::train::classify::{ACCURACY, Confusion};
use crate::train::data::Batch;
use crate::train::metrics::{Norms, Record};
use crate::train::norms::ParameterNorms;
use crate::train::split::equal_parts;
use crate::train::step::LOSS;
use crate::train::task::{Subject, Unit};
use crate::train::trainer::{StepReport, scalar};
use web_time::Instant;

/// Time over all parts of a run, and since the last record.
pub(super) struct Clock {
    pub before: f64,
    pub start: Instant,
    pub last: Instant,
}

impl Run {
    /// Into the metrics and, if wanted, the events for TensorBoard. What a full disk refuses is told once.
    pub(super) fn write_record(&mut self, record: &Record, grad_norm: Option<f32>, each: &mut dyn FnMut(Event<'_>)) {
        let written = self.metrics.write(record);
        if let Err(error) = &written
            && !self.records_wait
        {
            let warning = format!("{error}; training goes on, and the records wait until there is room");
            each(Event::Warning(&warning));
        }
        self.records_wait = written.is_err();
        let Some(events) = &mut self.events else { return };
        let mut values = vec![("loss/train", record.loss), ("lr", record.lr as f32)];
        let known = [
            ("loss/validation", record.val_loss),
            ("accuracy/train", record.accuracy),
            ("accuracy/validation", record.val_accuracy),
            ("grad_norm", grad_norm),
            ("loss_scale", record.loss_scale),
            ("skipped_steps", record.skipped_steps.map(|steps| steps as f32)),
            ("tokens_s", record.tokens_s.map(|rate| rate as f32)),
            ("images_s", record.images_s.map(|rate| rate as f32)),
        ];
        values.extend(known.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let norms = [("grad_norm", &record.grad_norms), ("weight_norm", &record.weight_norms)];
        let norms = norms
            .into_iter()
            .flat_map(|(kind, Norms(all))| all.iter().map(move |(name, norm)| (format!("{kind}/{name}"), *norm)));
        let norms: Vec<(String, f32)> = norms.collect();
        values.extend(norms.iter().map(|(name, norm)| (name.as_str(), *norm)));
        if let Err(error) = events.scalars(record.step, &values) {
            // A part of an event may be in the file, and nothing behind it could be read.
            self.events = None;
            each(Event::Warning(&format!("{error}; there will be no more events for TensorBoard")));
        }
    }

    pub(super) fn record(&mut self, report: &StepReport, found: Option<&Evaluation>) -> Result<Record> {
        let now = Instant::now();
        let seconds = now.duration_since(self.clock.last).as_secs_f64().max(1e-9);
        self.clock.last = now;
        let rate = |unit: Unit| (unit == self.subject.unit).then(|| self.subject.per_step as f64 / seconds);
        let accuracy = match self.subject.classes {
            Some(_) => report.results.f32(ACCURACY)?.first().copied(),
            None => None,
        };
        let logs = due(report.step, self.config.train.norms_every, self.config.train.steps);
        let norms = |which: fn(&ParameterNorms) -> f32| {
            let of_all = report.norms.iter().filter(|_| logs);
            Norms(of_all.map(|one| (one.name.clone(), which(one))).collect())
        };
        Ok(Record {
            step: report.step,
            loss: report.loss,
            val_loss: found.map(|found| found.loss),
            accuracy,
            val_accuracy: found.and_then(|found| found.confusion.as_ref()).map(Confusion::accuracy),
            lr: report.lr,
            tokens_s: rate(Unit::Tokens),
            images_s: rate(Unit::Images),
            grad_norm: report.grad_norm.unwrap_or(f32::NAN),
            loss_scale: report.scaling.map(|scaling| scaling.scale),
            skipped_steps: report.scaling.map(|scaling| scaling.skipped_steps),
            elapsed_s: self.clock.elapsed(),
            grad_norms: norms(|one| one.gradient),
            weight_norms: norms(|one| one.weight),
        })
    }

    pub(super) fn evaluate(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<Evaluation> {
        let found = evaluate(&self.subject, &mut |batch| self.trainer.evaluate_outputs(batch))?;
        self.subject.data.warnings().iter().for_each(|warning| each(Event::Warning(warning)));
        Ok(found)
    }

    /// Tells the learning rate of the steps that follow, if it depends on evaluations.
    pub(super) fn observe(&mut self, loss: f32, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        if self.trainer.has_plateau() && self.trainer.observe(f64::from(loss))? {
            each(Event::Slower { step: self.trainer.steps_done(), lr: self.trainer.next_lr() });
        }
        Ok(())
    }

    pub(super) fn keep_best(&mut self, step: u64, loss: f32) -> Result<()> {
        if self.best.is_some_and(|(_, best)| loss >= best) || loss.is_nan() {
            self.without_best += 1;
            return Ok(());
        }
        (self.best, self.without_best) = (Some((step, loss)), 0);
        let mut weights = self.trainer.averaged_weights()?;
        weights.metadata = self.subject.metadata();
        let about = [("step", step.to_string()), ("validation_loss", loss.to_string())];
        weights.metadata.extend(about.map(|(key, text)| (key.to_string(), text)));
        self.unsaved_best = Some(weights);
        Ok(())
    }
}

impl Clock {
    pub fn elapsed(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }
}

/// Goes through the held-out batches; `outputs` applies the model to one.
pub fn evaluate(subject: &Subject, outputs: &mut dyn FnMut(&Batch) -> Result<Results>) -> Result<Evaluation> {
    let batches = subject.eval_batches;
    let mut confusion = subject.classes.as_ref().map(|classes| Confusion::new(classes.names.len()));
    let mut sum = 0.0;
    for index in 0..batches {
        for part in equal_parts(&subject.data.validation(index, batches)?, subject.parts)? {
            let results = outputs(&part)?;
            match &mut confusion {
                Some(confusion) => confusion.add(&part, &results)?,
                None => sum += f64::from(scalar(&results, LOSS)?),
            }
        }
    }
    let loss = confusion.as_ref().map_or((sum / (batches * subject.parts) as f64) as f32, Confusion::loss);
    Ok(Evaluation { loss, confusion })
}
