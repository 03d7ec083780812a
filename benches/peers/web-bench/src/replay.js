// Put before a peer's script (bench.mjs, REPLAY): keeps what is dispatched, to run each dispatch of a step by itself again.
// Nothing is destroyed, so that what the last step used is still there.
(() => {
  const made = [];
  let device, pipelines = 0;
  const passes = new WeakMap();
  const wrap = (type, method, before) => {
    const original = type.prototype[method];
    type.prototype[method] = function (...args) {
      before.call(this, args);
      return original.apply(this, args);
    };
  };
  if (!self.GPUDevice) return;
  const request = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (...args) { return (device = await request.apply(this, args)); };
  GPUBuffer.prototype.destroy = GPUDevice.prototype.destroy = function () {};
  // Browsers make labels of what a peer says, which may be nothing: pipelines are numbered too.
  const numbers = new WeakMap();
  const of = (pass) => passes.get(pass) ?? passes.set(pass, { groups: [] }).get(pass);
  wrap(GPUComputePassEncoder, "setPipeline", function ([pipeline]) {
    if (!numbers.has(pipeline)) numbers.set(pipeline, pipelines++);
    of(this).pipeline = pipeline;
  });
  wrap(GPUComputePassEncoder, "setBindGroup", function ([index, group, ...offsets]) {
    of(this).groups[index] = [group, ...offsets.map((part) => (ArrayBuffer.isView(part) ? part.slice() : part))];
  });
  wrap(GPUComputePassEncoder, "dispatchWorkgroups", function ([x, y = 1, z = 1]) {
    const { pipeline, groups } = of(this);
    const name = pipeline.label || `pipeline ${numbers.get(pipeline)}`;
    made.push({ pipeline, groups: groups.slice(), size: [x, y, z], name, key: `${numbers.get(pipeline)} ${x} ${y} ${z}` });
    if (made.length > 1 << 14) made.splice(0, 1 << 13);
  });

  /** The dispatches of the last step: the shortest sequence that the end of all repeats. */
  function step() {
    const keys = made.map(({ key }) => key), last = keys.length;
    const repeats = (p) => { for (let i = 1; i <= 2 * p; i++) if (keys[last - i] !== keys[last - i - p]) return false; return true; };
    for (let p = 1; 3 * p <= last; p++) if (repeats(p)) return made.slice(last - p);
    throw new Error(`no step repeats among the last ${last} dispatches`);
  }

  /** Each dispatch of a step by itself: the least milliseconds of some rounds, of ten in a row. */
  self.replay = async (rounds, inRow = 10) => {
    const dispatches = step();
    const run = async ({ pipeline, groups, size }, count) => {
      const start = performance.now();
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      groups.forEach((group, index) => group && pass.setBindGroup(index, ...group));
      for (let i = 0; i < count; i++) pass.dispatchWorkgroups(...size);
      pass.end();
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
      return performance.now() - start;
    };
    const least = dispatches.map(() => Infinity);
    for (let round = 0; round < rounds; round++) {
      for (const [i, dispatch] of dispatches.entries()) {
        const once = await run(dispatch, 1);
        // What waiting costs is in both.
        least[i] = Math.min(least[i], ((await run(dispatch, inRow + 1)) - once) / inRow);
      }
    }
    return dispatches.map(({ name, size }, i) => ({ name, size, ms: least[i] }));
  };
})();
