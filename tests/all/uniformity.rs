//! A lint for what naga accepts and browsers refuse: barriers and subgroup operations where the
//! invocations of a workgroup may have parted ways.
//!
//! A value is *varying* if it may differ between invocations: what depends on an invocation's index, on
//! memory that is written in the same dispatch, or on a branch over such a value. Coarser than the
//! analysis of the WGSL specification, and never laxer on the constructs that kernels here use.

use naga::{
    AddressSpace, Binding, Block, BuiltIn, Expression, Function, GlobalVariable, Handle, LocalVariable, Module,
    Statement, StorageAccess,
};
use std::collections::HashMap;

/// The first barrier or subgroup operation of a module in non-uniform control flow.
pub fn check(module: &Module) -> Result<(), String> {
    for entry in &module.entry_points {
        let uniform = |binding: &Option<Binding>| {
            matches!(binding, Some(Binding::BuiltIn(BuiltIn::WorkGroupId | BuiltIn::NumWorkGroups)))
        };
        let arguments = entry.function.arguments.iter().map(|argument| !uniform(&argument.binding)).collect();
        Walk::new(module, &entry.function, arguments).run(false)?;
    }
    Ok(())
}

/// What may have happened to some invocations, but not all, by the end of a block.
#[derive(Default, Clone, Copy)]
struct Parted {
    returned: bool,
    left_loop: bool,
}

struct Walk<'a> {
    module: &'a Module,
    function: &'a Function,
    arguments: Vec<bool>,
    locals: HashMap<Handle<LocalVariable>, bool>,
    results: HashMap<Handle<Expression>, bool>,
    returns: bool,
}

impl<'a> Walk<'a> {
    fn new(module: &'a Module, function: &'a Function, arguments: Vec<bool>) -> Walk<'a> {
        Walk { module, function, arguments, locals: HashMap::new(), results: HashMap::new(), returns: false }
    }

    /// Walks the body until nothing new varies; whether the returned value does.
    fn run(mut self, parted: bool) -> Result<bool, String> {
        loop {
            let known = (self.locals.clone(), self.results.clone());
            self.block(&self.function.body, parted)?;
            if known == (self.locals.clone(), self.results.clone()) {
                return Ok(self.returns);
            }
        }
    }

    fn block(&mut self, block: &'a Block, mut parted: bool) -> Result<Parted, String> {
        let mut all = Parted::default();
        for statement in block {
            let after = self.statement(statement, parted)?;
            all.returned |= after.returned;
            all.left_loop |= after.left_loop;
            parted |= after.returned || after.left_loop;
        }
        Ok(all)
    }

    fn statement(&mut self, statement: &'a Statement, parted: bool) -> Result<Parted, String> {
        let nothing = Parted::default();
        match statement {
            Statement::Block(block) => self.block(block, parted),
            Statement::If { condition, accept, reject } => {
                let inside = parted || self.varies(*condition);
                let (a, b) = (self.block(accept, inside)?, self.block(reject, inside)?);
                Ok(Parted { returned: a.returned || b.returned, left_loop: a.left_loop || b.left_loop })
            }
            Statement::Switch { selector, cases } => {
                let inside = parted || self.varies(*selector);
                let mut all = nothing;
                for case in cases {
                    all.returned |= self.block(&case.body, inside)?.returned;
                }
                Ok(all)
            }
            Statement::Loop { body, continuing, break_if } => {
                let first = self.block(body, parted)?;
                // Who leaves early is missing in the next turn, from the top.
                let inside =
                    parted || first.left_loop || first.returned || break_if.is_some_and(|test| self.varies(test));
                let second = self.block(body, inside)?;
                self.block(continuing, inside)?;
                Ok(Parted { returned: first.returned || second.returned, left_loop: false })
            }
            Statement::Break | Statement::Continue => Ok(Parted { left_loop: parted, ..nothing }),
            Statement::Return { value } => {
                self.returns |= parted || value.is_some_and(|value| self.varies(value));
                Ok(Parted { returned: parted, ..nothing })
            }
            Statement::Store { pointer, value } => {
                if let Some(local) = self.local(*pointer)
                    && (parted || self.varies(*value) || self.varies(*pointer))
                {
                    self.locals.insert(local, true);
                }
                Ok(nothing)
            }
            Statement::Call { function, arguments, result } => {
                let varying = arguments.iter().map(|&argument| self.varies(argument)).collect();
                let returned = Walk::new(self.module, &self.module.functions[*function], varying).run(parted)?;
                if let Some(result) = result {
                    self.results.insert(*result, returned);
                }
                Ok(nothing)
            }
            Statement::Emit(_) => Ok(nothing),
            Statement::ControlBarrier(_)
            | Statement::MemoryBarrier(_)
            | Statement::WorkGroupUniformLoad { .. }
            | Statement::SubgroupBallot { .. }
            | Statement::SubgroupCollectiveOperation { .. }
            | Statement::SubgroupGather { .. }
            | Statement::CooperativeStore { .. } => {
                let name = self.function.name.as_deref().unwrap_or("main");
                if parted {
                    Err(format!("`{name}` has a barrier or subgroup operation in non-uniform control flow"))
                } else {
                    Ok(nothing)
                }
            }
            other => Err(format!("the uniformity lint does not know {other:?}")),
        }
    }

    fn local(&self, pointer: Handle<Expression>) -> Option<Handle<LocalVariable>> {
        match &self.function.expressions[pointer] {
            Expression::LocalVariable(local) => Some(*local),
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => self.local(*base),
            _ => None,
        }
    }

    fn global(&self, pointer: Handle<Expression>) -> Option<Handle<GlobalVariable>> {
        match &self.function.expressions[pointer] {
            Expression::GlobalVariable(global) => Some(*global),
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => self.global(*base),
            _ => None,
        }
    }

    /// Whether an expression may differ between invocations.
    fn varies(&self, handle: Handle<Expression>) -> bool {
        let any = |list: &[Option<Handle<Expression>>]| list.iter().flatten().any(|&operand| self.varies(operand));
        match &self.function.expressions[handle] {
            Expression::Literal(_) | Expression::Constant(_) | Expression::Override(_) | Expression::ZeroValue(_) => {
                false
            }
            Expression::GlobalVariable(_) | Expression::LocalVariable(_) | Expression::ArrayLength(_) => false,
            Expression::FunctionArgument(index) => self.arguments.get(*index as usize).copied().unwrap_or(true),
            Expression::CallResult(_) => self.results.get(&handle).copied().unwrap_or(false),
            Expression::Compose { components, .. } => components.iter().any(|&component| self.varies(component)),
            Expression::Access { base, index } => any(&[Some(*base), Some(*index)]),
            Expression::AccessIndex { base, .. } => self.varies(*base),
            Expression::Splat { value, .. } => self.varies(*value),
            Expression::Swizzle { vector, .. } => self.varies(*vector),
            Expression::Unary { expr, .. } | Expression::As { expr, .. } => self.varies(*expr),
            Expression::Binary { left, right, .. } => any(&[Some(*left), Some(*right)]),
            Expression::Select { condition, accept, reject } => any(&[Some(*condition), Some(*accept), Some(*reject)]),
            Expression::Relational { argument, .. } => self.varies(*argument),
            Expression::Math { arg, arg1, arg2, arg3, .. } => any(&[Some(*arg), *arg1, *arg2, *arg3]),
            Expression::Load { pointer } => {
                let memory = match (self.local(*pointer), self.global(*pointer)) {
                    (Some(local), _) => self.locals.get(&local).copied().unwrap_or(false),
                    (None, Some(global)) => match self.module.global_variables[global].space {
                        AddressSpace::Uniform => false,
                        AddressSpace::Storage { access } => access.contains(StorageAccess::STORE),
                        _ => true,
                    },
                    (None, None) => true,
                };
                memory || self.varies(*pointer)
            }
            _ => true,
        }
    }
}

fn verdict(body: &str) -> Result<(), String> {
    let text = format!(
        "struct Params {{ n: u32 }}
         @group(0) @binding(0) var<uniform> params: Params;
         @group(0) @binding(1) var<storage, read_write> data: array<u32>;
         var<workgroup> shared_data: array<u32, 64>;
         fn meet() {{ workgroupBarrier(); }}
         @compute @workgroup_size(64)
         fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{ {body} }}"
    );
    check(&naga::front::wgsl::parse_str(&text).expect("valid WGSL"))
}

#[test]
fn the_lint_tells_uniform_from_parted_control_flow() {
    for fine in [
        "if (wid.x >= params.n) { return; } meet();",
        "for (var i = 0u; i < params.n; i++) { shared_data[lane] = i; meet(); }",
        "if (lane < 3u) { data[lane] = 1u; } workgroupBarrier();",
        "for (var half = 32u; half > 0u; half /= 2u) { workgroupBarrier(); if (lane < half) { shared_data[lane] += 1u; } }",
    ] {
        assert_eq!(verdict(fine), Ok(()), "{fine}");
    }
    for wrong in [
        "if (lane < 3u) { workgroupBarrier(); }",
        "if (lane < 3u) { meet(); }",
        "if (lane < 3u) { return; } workgroupBarrier();",
        "for (var i = 0u; i < lane; i++) { meet(); }",
        "for (var i = 0u; i < data[0]; i++) { meet(); }",
        "var n = params.n; if (lane == 0u) { n = 1u; } for (var i = 0u; i < n; i++) { meet(); }",
        "loop { workgroupBarrier(); if (lane == 1u) { break; } }",
    ] {
        assert!(verdict(wrong).is_err(), "{wrong}");
    }
}
