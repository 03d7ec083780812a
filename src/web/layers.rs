//! Layers as a page writes them: `"relu"`, or a name with its arguments, `{linear: {features: 10}}`.
//!
//! Knows the words; what layers do is `nn::Sequential`'s affair.

use super::object::Fields;
use crate::error::{Error, Result};
use crate::nn::{ConvSpec, EmbeddingSpec, Layer, LinearSpec, PoolSpec};
use js_sys::{Array, Object};
use wasm_bindgen::{JsCast, JsValue};

/// Residual layers within residual layers go no deeper.
const DEEPEST: usize = 16;

/// A list of layers.
pub fn layers(value: &JsValue) -> Result<Vec<Layer>> {
    list(value, "", 0)
}

fn list(value: &JsValue, above: &str, depth: usize) -> Result<Vec<Layer>> {
    let Some(items) = value.dyn_ref::<Array>().filter(|_| depth < DEEPEST) else {
        return Err(Error::config(format!("the layers must be a list, at most {DEEPEST} deep")));
    };
    items.iter().enumerate().map(|(number, item)| layer(&item, &format!("{above}{number}"), depth)).collect()
}

fn layer(item: &JsValue, number: &str, depth: usize) -> Result<Layer> {
    let unknown = |word: &str| Error::config(format!("layer {number}: there is no layer `{word}`"));
    if let Some(word) = item.as_string() {
        return plain(&word).ok_or_else(|| unknown(&word));
    }
    let named = || Error::config(format!("layer {number} must be a name, or a name with its arguments"));
    let entry =
        item.dyn_ref::<Object>().map(Object::entries).filter(|entries| entries.length() == 1).ok_or_else(named)?;
    let entry: Array = entry.get(0).into();
    let (word, arguments) = (entry.get(0).as_string().unwrap_or_default(), entry.get(1));
    let wanted =
        |found: Option<f64>| found.ok_or_else(|| Error::config(format!("layer {number}: {word} wants a number")));
    match word.as_str() {
        "dropout" => return Ok(Layer::Dropout(wanted(arguments.as_f64())?)),
        "leakyRelu" => return Ok(Layer::LeakyRelu(wanted(arguments.as_f64())?)),
        "residual" => return Ok(Layer::Residual(list(&arguments, &format!("{number}."), depth + 1)?)),
        _ => {}
    }
    let fields = Fields::of(&arguments, format!("layer {number}, {word}"))?;
    let layer = match word.as_str() {
        "linear" => Layer::Linear(LinearSpec {
            features: fields.wanted("features", fields.size("features")?)?,
            bias: fields.flag("bias")?.unwrap_or(true),
        }),
        "conv2d" => Layer::Conv2d(ConvSpec {
            filters: fields.wanted("filters", fields.size("filters")?)?,
            kernel: fields.wanted("kernel", fields.pair("kernel")?)?,
            stride: fields.size("stride")?.unwrap_or(1),
            padding: fields.size("padding")?.unwrap_or(0),
            groups: fields.size("groups")?.unwrap_or(1),
            bias: fields.flag("bias")?.unwrap_or(true),
        }),
        "maxPool2d" => Layer::MaxPool2d(pool(&fields)?),
        "avgPool2d" => Layer::AvgPool2d(pool(&fields)?),
        "embedding" => Layer::Embedding(EmbeddingSpec {
            rows: fields.wanted("rows", fields.size("rows")?)?,
            features: fields.wanted("features", fields.size("features")?)?,
        }),
        _ => return Err(unknown(&word)),
    };
    fields.end()?;
    Ok(layer)
}

fn plain(word: &str) -> Option<Layer> {
    Some(match word {
        "relu" => Layer::Relu,
        "gelu" => Layer::Gelu,
        "silu" => Layer::Silu,
        "tanh" => Layer::Tanh,
        "sigmoid" => Layer::Sigmoid,
        "flatten" => Layer::Flatten,
        "globalAvgPool" => Layer::GlobalAvgPool,
        "batchNorm" => Layer::BatchNorm,
        "layerNorm" => Layer::LayerNorm,
        _ => return None,
    })
}

fn pool(fields: &Fields) -> Result<PoolSpec> {
    Ok(PoolSpec {
        kernel: fields.wanted("kernel", fields.pair("kernel")?)?,
        stride: fields.pair("stride")?,
        padding: fields.size("padding")?.unwrap_or(0),
    })
}
