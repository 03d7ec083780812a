//! The update rule and the schedule that a page asks for: a name, or an object of a name and its options.
//!
//! Names, options and defaults are those of a run's `config.toml`, written as JavaScript writes them: `minLr`. What an option
//! means, and whether a rule has it, is the configuration's affair.

use super::object::Fields;
use crate::error::{Error, Result};
use crate::optim::AdjustLr;
use crate::train::config::{Config, OptimizerKind, Schedule};
use js_sys::Object;
use wasm_bindgen::JsValue;

/// Changes the configuration to what is asked for under `optimizer` and `schedule`. `lr` and `weightDecay` say whether those were given:
/// where they were not, each rule has its own.
pub fn read(config: &mut Config, fields: &Fields, lr: bool, weight_decay: bool) -> Result<()> {
    if let Some((name, options)) = asked(fields, "optimizer")? {
        config.train.optimizer = find(OptimizerKind::ALL.map(|kind| (kind.row().0, kind)), "optimizers", &name)?;
        let own = &mut config.optimizer;
        let mut numbers = [
            ("momentum", &mut own.momentum),
            ("dampening", &mut own.dampening),
            ("beta1", &mut own.beta1),
            ("beta2", &mut own.beta2),
            ("eps", &mut own.eps),
            ("alpha", &mut own.alpha),
            ("lrDecay", &mut own.lr_decay),
            ("rho", &mut own.rho),
            ("beta2Decay", &mut own.beta2_decay),
            ("d", &mut own.d),
            ("initialAccumulatorValue", &mut own.initial_accumulator_value),
            ("eps1", &mut own.eps1),
            ("eps2", &mut own.eps2),
        ];
        for (key, place) in &mut numbers {
            **place = options.number(key)?;
        }
        let flags = [("nesterov", &mut own.nesterov), ("amsgrad", &mut own.amsgrad), ("centered", &mut own.centered)];
        for (key, place) in flags {
            *place = options.flag(key)?;
        }
        own.ns_steps = options.size("nsSteps")?;
        if let Some(name) = options.word("adjustLrFn")? {
            let all = [
                ("original", AdjustLr::Original),
                ("match_rms_adamw", AdjustLr::MatchRmsAdamW),
                ("spectral_unclamped", AdjustLr::SpectralUnclamped),
            ];
            own.adjust_lr_fn = Some(find(all, "values of `adjustLrFn`", &name)?);
        }
        options.end()?;
        config.use_rules_defaults(lr, weight_decay);
    }
    if let Some((name, options)) = asked(fields, "schedule")? {
        config.train.schedule = find(Schedule::ALL.map(|schedule| (schedule.row().0, schedule)), "schedules", &name)?;
        let own = &mut config.schedule;
        let mut numbers = [
            ("minLr", &mut own.min_lr),
            ("power", &mut own.power),
            ("factor", &mut own.factor),
            ("threshold", &mut own.threshold),
        ];
        for (key, place) in &mut numbers {
            **place = options.number(key)?;
        }
        let mut counts = [
            ("period", &mut own.period),
            ("periodGrowth", &mut own.period_growth),
            ("decay", &mut own.decay),
            ("patience", &mut own.patience),
            ("cooldown", &mut own.cooldown),
        ];
        for (key, place) in &mut counts {
            **place = options.size(key)?.map(|n| n as u64);
        }
        options.end()?;
    }
    Ok(())
}

/// A name with its options, of which there may be none.
fn asked(fields: &Fields, key: &'static str) -> Result<Option<(String, Fields)>> {
    let Some(value) = fields.get(key) else { return Ok(None) };
    if let Some(name) = value.as_string() {
        return Ok(Some((name, Fields::of(&JsValue::from(Object::new()), key)?)));
    }
    let options = Fields::of(&value, key)?;
    let name = options.wanted("name", options.word("name")?)?;
    Ok(Some((name, options)))
}

fn find<T: Copy, const N: usize>(all: [(&str, T); N], what: &str, name: &str) -> Result<T> {
    let unknown = || Error::config(format!("the {what} are {}, got `{name}`", all.map(|(name, _)| name).join(", ")));
    all.iter().find(|(own, _)| *own == name).map(|(_, kind)| *kind).ok_or_else(unknown)
}
