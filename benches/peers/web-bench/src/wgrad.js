// wgrad itself, as a page uses it: the package in web/dist (web/build.sh), which bench.mjs serves beside this one.
import { STD, median } from "./common.js";

const TOKENS = { W4: 1024 };

window.bench = async (workload, opts) => {
  const place = "/wgrad/index.js";
  const { open } = await import(place);
  const device = await open();
  const out = { version: __WGRAD_VERSION__, adapter: device.adapter };
  const [, w0, s0] = STD[workload] || [0, 3, 10], warm = opts.warmup || w0, steps = opts.steps || s0;
  const cold = await device.workload(workload, 1);
  await window.firstStep();
  const run = await device.workload(workload, warm + steps);
  // The first step of a run is not among its times.
  const ms = run.times.slice(warm - 1), med = median(ms);
  const r = { ...out, median_ms: med, min_ms: Math.min(...ms), first_step_ms: cold.first, reps: `${warm}+${steps} steps, ${run.dispatches} launches` };
  if (workload.startsWith("W1-")) return { ...r, loss_first: null, loss_last: null, falls: true, gflops: (2 * (+workload.slice(3)) ** 3) / med / 1e6 };
  const [first, last] = [run.losses[0], run.losses.at(-1)];
  return { ...r, loss_first: first, loss_last: last, falls: last < first, ...(TOKENS[workload] && { tokens: TOKENS[workload], batch: STD[workload][0], params: 875264 }) };
};
