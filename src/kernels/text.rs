//! A builder for indented text: the emitter's only tool.

/// WGSL in the making.
pub struct Text {
    text: String,
    depth: usize,
}

impl Text {
    pub fn new() -> Text {
        Text { text: String::new(), depth: 0 }
    }

    pub fn line(&mut self, line: impl AsRef<str>) {
        for _ in 0..self.depth {
            self.text.push_str("    ");
        }
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// A line that opens a block: ` {` is added.
    pub fn open(&mut self, line: impl AsRef<str>) {
        self.line(format!("{} {{", line.as_ref()));
        self.depth += 1;
    }

    /// A block of its own, for its names.
    pub fn scope(&mut self) {
        self.line("{");
        self.depth += 1;
    }

    pub fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }

    /// Several lines at the present depth, written as one literal.
    pub fn lines(&mut self, lines: &str) {
        for line in lines.lines() {
            self.line(line);
        }
    }

    pub fn finish(self) -> String {
        self.text
    }
}
