// Row reductions when a workgroup is exactly one subgroup: no shared memory, no barrier.

fn row_sum(value: f32, lane: u32) -> f32 {
    return subgroupAdd(value);
}

fn row_max(value: f32, lane: u32) -> f32 {
    return subgroupMax(value);
}
