//! A value as one tensor, or in parts along an axis, which may be in parts themselves.

use crate::graph::{TensorType, Value};

#[derive(Debug, Clone)]
pub(super) struct Parted {
    pub ty: TensorType,
    pub form: Form,
}

#[derive(Debug, Clone)]
pub(super) enum Form {
    Whole(Value),
    /// In order; none is empty, unless all are.
    Parts {
        axis: usize,
        parts: Vec<Parted>,
    },
}

impl Parted {
    pub fn whole(ty: TensorType, value: Value) -> Parted {
        Parted { ty, form: Form::Whole(value) }
    }

    /// Several values side by side along an axis. Parts along that axis are taken over one by one.
    pub fn along(axis: usize, parts: Vec<Parted>) -> Parted {
        let mut flat: Vec<Parted> = Vec::with_capacity(parts.len());
        for part in parts {
            match part.form {
                Form::Parts { axis: own, parts } if own == axis => flat.extend(parts),
                _ => flat.push(part),
            }
        }
        if flat.iter().any(|part| part.ty.shape[axis] > 0) {
            flat.retain(|part| part.ty.shape[axis] > 0);
        }
        if flat.len() == 1 {
            return flat.remove(0);
        }
        let size = flat.iter().map(|part| part.ty.shape[axis]).sum();
        let first = &flat[0].ty;
        Parted {
            ty: TensorType::new(first.shape.with(axis, size), first.dtype),
            form: Form::Parts { axis, parts: flat },
        }
    }

    pub fn is_whole(&self) -> bool {
        matches!(self.form, Form::Whole(_))
    }

    pub fn value(&self) -> Option<Value> {
        match self.form {
            Form::Whole(value) => Some(value),
            Form::Parts { .. } => None,
        }
    }

    /// The sizes of the parts, if it lies in parts along this axis.
    pub fn sizes_along(&self, axis: usize) -> Option<Vec<usize>> {
        match &self.form {
            Form::Parts { axis: own, parts } if *own == axis => {
                Some(parts.iter().map(|part| part.ty.shape[axis]).collect())
            }
            _ => None,
        }
    }

    /// All tensors that it is made of.
    pub fn leaves(&self, list: &mut Vec<Value>) {
        match &self.form {
            Form::Whole(value) => list.push(*value),
            Form::Parts { parts, .. } => parts.iter().for_each(|part| part.leaves(list)),
        }
    }
}
