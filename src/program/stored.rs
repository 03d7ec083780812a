//! A program and its state's layout as bytes, part by part: what [`Codec`] writes and reads.
//!
//! All but `expired`, which the executor ignores. Whether what was read can run is checked where a session is made, and what its
//! kernels do as they run.

use super::codec::Codec;
use super::{
    Binding, BufferDecl, Category, Dispatch, Io, Kernel, ParamStep, Piece, Program, Role, Scalar, Segment, StateBuffer,
    StateEntry, StateLayout,
};
use crate::dtype::DType;
use crate::shape::Shape;

const CATEGORIES: [Category; 4] = [Category::Weights, Category::Gradients, Category::Optimizer, Category::Other];

impl Program {
    /// What a program is read into.
    pub(crate) fn empty() -> Program {
        Program {
            name: String::new(),
            kernels: Vec::new(),
            buffers: Vec::new(),
            segments: Vec::new(),
            inputs: Vec::new(),
            scalars: Vec::new(),
            constants: Vec::new(),
            outputs: Vec::new(),
            expired: Vec::new(),
        }
    }

    /// Writes the program, or reads it.
    pub(crate) fn walk(&mut self, codec: &mut Codec) {
        codec.text(&mut self.name);
        let kernel = Kernel {
            name: String::new(),
            wgsl: String::new(),
            writable: Vec::new(),
            workgroup: 0,
            params_in_storage: false,
            subgroups: false,
            foreign: true,
        };
        codec.list(&mut self.kernels, kernel, |codec, kernel| {
            codec.text(&mut kernel.name);
            codec.text(&mut kernel.wgsl);
            codec.list(&mut kernel.writable, false, Codec::flag);
            codec.word(&mut kernel.workgroup);
            codec.flag(&mut kernel.params_in_storage);
            codec.flag(&mut kernel.subgroups);
        });
        codec.list(&mut self.buffers, BufferDecl { role: Role::Transient, bytes: 0 }, |codec, buffer| {
            role(codec, &mut buffer.role);
            codec.number(&mut buffer.bytes);
        });
        codec.list(&mut self.segments, Segment::Gpu(Vec::new()), segment);
        ios(codec, &mut self.inputs);
        codec.list(&mut self.scalars, Scalar { name: String::new(), dtype: DType::F32 }, |codec, scalar| {
            codec.text(&mut scalar.name);
            codec.dtype(&mut scalar.dtype);
        });
        codec.list(&mut self.constants, 0, Codec::word);
        ios(codec, &mut self.outputs);
    }
}

fn role(codec: &mut Codec, role: &mut Role) {
    let mut tag = match role {
        Role::State(_) => 0,
        Role::Transient => 1,
        Role::Input(_) => 2,
        Role::Scalars => 3,
        Role::Constants => 4,
    };
    codec.word(&mut tag);
    if codec.reads() {
        *role = match tag {
            0 => Role::State(0),
            1 => Role::Transient,
            2 => Role::Input(String::new()),
            3 => Role::Scalars,
            4 => Role::Constants,
            _ => return codec.tear(),
        };
    }
    match role {
        Role::State(state) => codec.size(state),
        Role::Input(name) => codec.text(name),
        Role::Transient | Role::Scalars | Role::Constants => (),
    }
}

fn segment(codec: &mut Codec, segment: &mut Segment) {
    let mut tag = match segment {
        Segment::Gpu(_) => 0,
        Segment::Repeat { .. } => 1,
        Segment::Host(_) => 2,
    };
    codec.word(&mut tag);
    if codec.reads() {
        *segment = match tag {
            0 => Segment::Gpu(Vec::new()),
            1 => Segment::Repeat { count: 0, body: Vec::new(), steps: Vec::new() },
            2 => Segment::Host(String::new()),
            _ => return codec.tear(),
        };
    }
    match segment {
        Segment::Gpu(dispatches) => self::dispatches(codec, dispatches),
        Segment::Repeat { count, body, steps } => {
            codec.word(count);
            dispatches(codec, body);
            codec.list(steps, ParamStep { dispatch: 0, word: 0, step: 0 }, |codec, step| {
                codec.size(&mut step.dispatch);
                codec.size(&mut step.word);
                codec.word(&mut step.step);
            });
        }
        Segment::Host(name) => codec.text(name),
    }
}

fn dispatches(codec: &mut Codec, dispatches: &mut Vec<Dispatch>) {
    let empty = Dispatch {
        kernel: 0,
        label: String::new(),
        bindings: Vec::new(),
        params: Vec::new(),
        groups: [0; 2],
        flops: 0,
        bytes_moved: 0,
    };
    codec.list(dispatches, empty, |codec, dispatch| {
        codec.size(&mut dispatch.kernel);
        codec.text(&mut dispatch.label);
        codec.list(&mut dispatch.bindings, Binding { buffer: 0, offset: 0, bytes: 0 }, |codec, binding| {
            codec.size(&mut binding.buffer);
            codec.number(&mut binding.offset);
            codec.number(&mut binding.bytes);
        });
        codec.list(&mut dispatch.params, 0, Codec::word);
        dispatch.groups.iter_mut().for_each(|groups| codec.word(groups));
        codec.number(&mut dispatch.flops);
        codec.number(&mut dispatch.bytes_moved);
    });
}

fn ios(codec: &mut Codec, ios: &mut Vec<Io>) {
    let empty = Io { name: String::new(), dtype: DType::F32, shape: Shape::scalar(), buffer: 0, offset: 0 };
    codec.list(ios, empty, |codec, io| {
        codec.text(&mut io.name);
        codec.dtype(&mut io.dtype);
        codec.shape(&mut io.shape);
        codec.size(&mut io.buffer);
        codec.number(&mut io.offset);
    });
}

impl StateLayout {
    /// Writes the layout, or reads it.
    pub(crate) fn walk(&mut self, codec: &mut Codec) {
        let buffer = StateBuffer { label: String::new(), category: Category::Other, bytes: 0 };
        codec.list(&mut self.buffers, buffer, |codec, buffer| {
            codec.text(&mut buffer.label);
            codec.one_of(&mut buffer.category, &CATEGORIES);
            codec.number(&mut buffer.bytes);
        });
        let mut entries: Vec<(String, StateEntry)> = std::mem::take(&mut self.entries).into_iter().collect();
        let empty = StateEntry { dtype: DType::F32, shape: Shape::scalar(), pieces: Vec::new() };
        codec.list(&mut entries, (String::new(), empty), |codec, (name, entry)| {
            codec.text(name);
            codec.dtype(&mut entry.dtype);
            codec.shape(&mut entry.shape);
            codec.list(&mut entry.pieces, Piece { buffer: 0, offset: 0, bytes: 0 }, |codec, piece| {
                codec.size(&mut piece.buffer);
                codec.number(&mut piece.offset);
                codec.number(&mut piece.bytes);
            });
        });
        self.entries = entries.into_iter().collect();
    }
}
