//! JavaScript objects, read key by key and written.
//!
//! A page's JSON is parsed by the page: a parser in the program would be a tenth of its size. Errors name the key and what
//! it must be, and keys that nobody reads are errors. Knows no model.

use crate::error::{Error, Result};
use js_sys::{Array, Object, Reflect};
use std::cell::RefCell;
use wasm_bindgen::{JsCast, JsValue};

/// An object whose keys are taken one by one.
pub struct Fields {
    /// For messages, such as `layer 3`.
    what: String,
    object: Object,
    taken: RefCell<Vec<&'static str>>,
}

impl Fields {
    pub fn of(value: &JsValue, what: impl Into<String>) -> Result<Fields> {
        let what = what.into();
        match value.dyn_ref::<Object>() {
            Some(object) if !Array::is_array(value) => {
                Ok(Fields { what, object: object.clone(), taken: RefCell::default() })
            }
            _ => Err(Error::config(format!("{what} must be an object"))),
        }
    }

    /// A value that may be absent.
    pub fn get(&self, key: &'static str) -> Option<JsValue> {
        self.taken.borrow_mut().push(key);
        get(&self.object, key)
    }

    fn read<T>(&self, key: &'static str, must: &str, read: impl Fn(&JsValue) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || Error::config(format!("{}: `{key}` must be {must}", self.what));
        read(&value).map(Some).ok_or_else(wrong)
    }

    pub fn number(&self, key: &'static str) -> Result<Option<f64>> {
        self.read(key, "a number", JsValue::as_f64)
    }

    pub fn size(&self, key: &'static str) -> Result<Option<usize>> {
        self.read(key, "a whole number of at least 0", size)
    }

    pub fn flag(&self, key: &'static str) -> Result<Option<bool>> {
        self.read(key, "true or false", JsValue::as_bool)
    }

    pub fn word(&self, key: &'static str) -> Result<Option<String>> {
        self.read(key, "a string", JsValue::as_string)
    }

    pub fn sizes(&self, key: &'static str) -> Result<Option<Vec<usize>>> {
        self.read(key, "a list of whole numbers", sizes)
    }

    /// Two numbers, or one that is meant twice.
    pub fn pair(&self, key: &'static str) -> Result<Option<[usize; 2]>> {
        self.read(key, "a whole number or two", |value| match sizes(value) {
            Some(list) => <[usize; 2]>::try_from(list).ok(),
            None => size(value).map(|side| [side; 2]),
        })
    }

    /// What has to be there.
    pub fn wanted<T>(&self, key: &'static str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::config(format!("{}: `{key}` is missing", self.what)))
    }

    /// An error if there is a key that nobody asked for.
    pub fn end(self) -> Result<()> {
        let taken = self.taken.into_inner();
        let keys = Object::keys(&self.object).iter().filter_map(|key| key.as_string()).collect::<Vec<_>>();
        match keys.iter().find(|key| !taken.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                Err(Error::config(format!("{}: there is no `{key}`; there are {}", self.what, taken.join(", "))))
            }
        }
    }
}

/// A property that is there and neither null nor undefined.
pub fn get(object: &JsValue, key: &str) -> Option<JsValue> {
    Reflect::get(object, &key.into()).ok().filter(|value| !value.is_null() && !value.is_undefined())
}

/// A whole number that fits.
pub fn size(value: &JsValue) -> Option<usize> {
    let number = value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..=9_007_199_254_740_991.0).contains(n))?;
    usize::try_from(number as u64).ok()
}

/// A list of whole numbers.
pub fn sizes(value: &JsValue) -> Option<Vec<usize>> {
    value.dyn_ref::<Array>()?.iter().map(|item| size(&item)).collect()
}

/// An object with these properties.
pub fn object<const N: usize>(properties: [(&str, JsValue); N]) -> JsValue {
    let object = Object::new();
    for (key, value) in properties {
        // Setting a property of a fresh object cannot fail.
        let _ = Reflect::set(&object, &key.into(), &value);
    }
    object.into()
}
