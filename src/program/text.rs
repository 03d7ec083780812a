//! A program as text: one line a dispatch. What `wgrad explain` prints and golden tests compare.

use super::{Dispatch, Program, Role, Segment};
use std::fmt::Write;

impl Program {
    /// The program as text, without kernel sources.
    pub fn to_text(&self) -> String {
        let mut text =
            format!("program {:?}: {} dispatches, {} kernels\n", self.name, self.dispatches(), self.kernels.len());
        for (index, buffer) in self.buffers.iter().enumerate() {
            let role = match &buffer.role {
                Role::Scalars => format!("scalars {:?}", self.scalars.iter().map(|s| &s.name).collect::<Vec<_>>()),
                role => role.to_string(),
            };
            let _ = writeln!(text, "  b{index}: {} bytes, {role}", buffer.bytes);
        }
        for segment in &self.segments {
            match segment {
                Segment::Gpu(dispatches) => {
                    text.push_str("gpu\n");
                    dispatches.iter().for_each(|dispatch| self.line(&mut text, dispatch));
                }
                Segment::Repeat { count, body, .. } => {
                    let _ = writeln!(text, "repeat {count}");
                    body.iter().for_each(|dispatch| self.line(&mut text, dispatch));
                }
                Segment::Host(name) => {
                    let _ = writeln!(text, "host {name:?}");
                }
            }
        }
        for output in &self.outputs {
            let _ = writeln!(text, "output {:?}: {}{} in b{}", output.name, output.dtype, output.shape, output.buffer);
        }
        text
    }

    fn line(&self, text: &mut String, dispatch: &Dispatch) {
        let kernel = &self.kernels[dispatch.kernel];
        let bindings: Vec<String> = dispatch
            .bindings
            .iter()
            .zip(&kernel.writable)
            .map(|(binding, &writable)| {
                let mode = if writable { "*" } else { "" };
                let at = if binding.offset == 0 { String::new() } else { format!("+{}", binding.offset) };
                format!("b{}{at}{mode}", binding.buffer)
            })
            .collect();
        let groups =
            if dispatch.groups[1] == 1 { dispatch.groups[0].to_string() } else { format!("{:?}", dispatch.groups) };
        let _ = writeln!(text, "  {} <{}> [{}] x{groups}", kernel.name, dispatch.label, bindings.join(" "));
    }
}
