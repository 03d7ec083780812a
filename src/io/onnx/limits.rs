//! A look at a file's bytes before they are decoded: how deep it nests, how many nodes it has, and how much memory
//! its messages will take.
//!
//! Decoding gives every message its struct, however few bytes it had in the file: two bytes can become two hundred. So
//! the wire format is walked first, without allocating anything, and a file that would take more than four times its
//! size and 16 MiB is refused. It knows which fields hold messages, and nothing of what they mean.

use super::proto;
use std::mem::size_of;

/// Bytes of a file; protobuf's own limit.
pub const MAX_FILE: usize = i32::MAX as usize;
/// Nodes of all graphs of a file together.
pub const MAX_NODES: usize = 1_000_000;
/// Nodes that are traced of a small file: loops and functions are written out. A larger one may have twice its nodes more.
pub const MAX_WRITTEN_OUT: usize = 100_000;
/// Messages within messages.
pub const MAX_DEPTH: usize = 90;
/// Elements of one tensor while tracing; fewer where addresses are short.
pub const MAX_ELEMENTS: usize = if usize::BITS > 32 { 1 << 30 } else { 1 << 26 };
/// Elements of what only views a tensor, windows say.
pub const MAX_VIEWED: usize = if usize::BITS > 32 { usize::MAX >> 16 } else { 1 << 30 };
/// Elements up to which constants are computed while importing.
pub const MAX_FOLDED: usize = 1 << 20;
/// Elements that are computed while importing, all constants together: about a second.
pub const MAX_COMPUTED: u64 = 1 << 25;
/// Nodes that an import may add to a graph.
pub const MAX_TRACED: usize = 4_000_000;
/// Functions within functions, or graphs within graphs, while tracing.
pub const MAX_CALLS: usize = 32;
/// Axes of a tensor.
pub const MAX_RANK: usize = 64;

/// The kinds of messages that are decoded.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Dimension,
    Opset,
    Function,
    Ignored,
}

/// What a length-delimited field becomes in memory.
enum Field {
    Message(Kind),
    /// A string or bytes of its own.
    Text,
    /// Numbers of so many bytes, each of which may have taken one byte in the file.
    Packed(usize),
    /// Nothing, or a part of the file's own buffer.
    Skipped,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Kind::Model => size_of::<proto::ModelProto>(),
            Kind::Graph => size_of::<proto::GraphProto>(),
            Kind::Node => size_of::<proto::NodeProto>(),
            Kind::Attribute => size_of::<proto::AttributeProto>(),
            Kind::Tensor => size_of::<proto::TensorProto>(),
            Kind::Sparse => size_of::<proto::SparseTensorProto>(),
            Kind::ValueInfo => size_of::<proto::ValueInfoProto>(),
            Kind::Type => size_of::<proto::TypeProto>(),
            Kind::TensorType => size_of::<proto::TensorTypeProto>(),
            Kind::Shape => size_of::<proto::TensorShapeProto>(),
            Kind::Dimension => size_of::<proto::DimensionProto>(),
            Kind::Opset => size_of::<proto::OperatorSetIdProto>(),
            Kind::Function => size_of::<proto::FunctionProto>(),
            Kind::Ignored => 1,
        }
    }

    fn field(self, number: u64) -> Field {
        use Field::{Message, Packed, Skipped, Text};
        match (self, number) {
            (Kind::Model, 7) | (Kind::Attribute, 6) => Message(Kind::Graph),
            (Kind::Model, 8) | (Kind::Function, 9) => Message(Kind::Opset),
            (Kind::Model, 25) => Message(Kind::Function),
            (Kind::Graph, 1) | (Kind::Function, 7) => Message(Kind::Node),
            (Kind::Graph, 5) | (Kind::Attribute, 5) | (Kind::Sparse, 1) => Message(Kind::Tensor),
            (Kind::Graph, 11 | 12) => Message(Kind::ValueInfo),
            (Kind::Graph, 15) => Message(Kind::Sparse),
            (Kind::Node, 5) | (Kind::Function, 11) => Message(Kind::Attribute),
            (Kind::ValueInfo, 2) => Message(Kind::Type),
            (Kind::Type, 1) => Message(Kind::TensorType),
            (Kind::TensorType, 2) => Message(Kind::Shape),
            (Kind::Shape, 1) => Message(Kind::Dimension),
            (Kind::Tensor, 3 | 13) | (Kind::Type, 4 | 5 | 8 | 9) => Message(Kind::Ignored),
            (Kind::Attribute, 7) | (Kind::Tensor, 4) => Packed(1),
            (Kind::Tensor, 5) => Packed(4),
            (Kind::Attribute, 8) | (Kind::Tensor, 1 | 7) => Packed(8),
            (Kind::Tensor, 10) => Packed(1),
            (Kind::Node, 1..=4 | 7) | (Kind::Function, 1 | 4 | 5 | 10) => Text,
            (Kind::Attribute, 1 | 4 | 9 | 21) | (Kind::Tensor, 8) | (Kind::ValueInfo, 1) => Text,
            (Kind::Dimension, 2) | (Kind::Opset, 1) => Text,
            _ => Skipped,
        }
    }
}

/// What the walk has counted.
#[derive(Default)]
struct Tally {
    nodes: usize,
    memory: usize,
}

/// Refuses files that are too large, too deep or would take too much memory.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    check_kind(bytes, Kind::Model)
}

/// The same for a file that is one tensor.
pub fn check_tensor(bytes: &[u8]) -> Result<(), String> {
    check_kind(bytes, Kind::Tensor)
}

fn check_kind(bytes: &[u8], kind: Kind) -> Result<(), String> {
    if bytes.len() > MAX_FILE {
        return Err(format!("it has {} bytes; protobuf files end at 2 GiB", bytes.len()));
    }
    let budget = bytes.len().saturating_mul(4).saturating_add(16 << 20);
    let mut tally = Tally::default();
    walk(bytes, kind, 0, budget, &mut tally)
}

fn walk(mut rest: &[u8], kind: Kind, depth: usize, budget: usize, tally: &mut Tally) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("its messages are nested more than {MAX_DEPTH} deep"));
    }
    // A vector that grows holds up to twice what it needs, and both copies while it moves.
    tally.memory = tally.memory.saturating_add(kind.bytes().saturating_mul(2));
    tally.nodes = tally.nodes.saturating_add(usize::from(kind == Kind::Node));
    if tally.nodes > MAX_NODES {
        return Err(format!("it has more than {MAX_NODES} nodes"));
    }
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match key & 7 {
            0 => {
                varint(&mut rest)?;
                // Repeated numbers may also come one by one.
                tally.memory = tally.memory.saturating_add(16);
            }
            1 => drop(take(&mut rest, 8)?),
            2 => {
                let length = varint(&mut rest)?;
                let length = usize::try_from(length).map_err(|_| "a length exceeds the file".to_string())?;
                let content = take(&mut rest, length)?;
                match kind.field(key >> 3) {
                    Field::Message(inner) => walk(content, inner, depth.saturating_add(1), budget, tally)?,
                    Field::Text => tally.memory = tally.memory.saturating_add(length.saturating_add(48)),
                    Field::Packed(each) => tally.memory = tally.memory.saturating_add(length.saturating_mul(each)),
                    Field::Skipped => {}
                }
            }
            5 => drop(take(&mut rest, 4)?),
            other => return Err(format!("wire type {other} is not used by protobuf files of today")),
        }
        if tally.memory > budget {
            return Err(format!("decoding it would take more than {budget} bytes of memory, four times its size"));
        }
    }
    Ok(())
}

fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or("it ends within a number")?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number has more than 10 bytes".into())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (taken, tail) = rest
        .split_at_checked(length)
        .ok_or_else(|| format!("a field of {length} bytes does not fit into the {} that are left", rest.len()))?;
    *rest = tail;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            bytes.push((length as u8 & 0x7f) | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn empty_messages_by_the_million_are_refused() {
        let nodes: Vec<u8> = std::iter::repeat_n([10, 0], 400_000).flatten().collect();
        assert!(check(&field(7, &nodes)).unwrap_err().contains("memory"));
        let few: Vec<u8> = std::iter::repeat_n([10, 0], 1000).flatten().collect();
        assert_eq!(check(&field(7, &few)), Ok(()));
    }

    #[test]
    fn graphs_within_graphs_end_somewhere() {
        let mut graph = Vec::new();
        for _ in 0..60 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        assert!(check(&field(7, &graph)).unwrap_err().contains("deep"));
    }

    #[test]
    fn lengths_are_checked_against_what_is_left() {
        for bytes in [&[0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0x3a, 5, 1], &[0x80], &[0xff; 11], &[0x3b]] {
            assert!(check(bytes).is_err(), "{bytes:?}");
        }
    }
}
