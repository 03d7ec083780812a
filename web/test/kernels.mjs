// Chromium's compiler over every kernel that a browser may be given (tests/in_browser/texts.rs): modules without a message, and with
// `--pipelines`, which takes a software adapter minutes, pipelines that can be made. Kernels with `enable f16` or `enable subgroups` only where the adapter has them.
import assert from "node:assert/strict";
import { launch, run, web } from "./browser.mjs";
import { serve } from "./server.mjs";

const tests = {
    async "every kernel is compiled"({ page, said }) {
        const found = await page.evaluate(async (pipelines) => {
            const { default: init, kernels } = await import("/test/pkg/in_browser.js");
            await init();
            const adapter = await navigator.gpu.requestAdapter();
            const features = ["shader-f16", "subgroups"].filter((feature) => adapter.features.has(feature));
            const device = await adapter.requestDevice({ requiredFeatures: features });
            const has = (feature, pattern, code) => features.includes(feature) || !pattern.test(code);
            const all = kernels();
            const taken = all.filter(([, code]) => has("shader-f16", /enable f16/, code) && has("subgroups", /enable subgroups/, code));
            const wrong = [];
            for (const [name, code] of taken) {
                device.pushErrorScope("validation");
                const module = device.createShaderModule({ code });
                const { messages } = await module.getCompilationInfo();
                wrong.push(...messages.map((message) => `${name}: ${message.type}: ${message.message} (line ${message.lineNum})`));
                // A GPU's tiles for convolutions take SwiftShader, which no page gives them to, minutes and 10 GB each.
                const tooMuch = adapter.info.architecture === "swiftshader" && name.includes("conv_tiled");
                const pipeline = pipelines && !tooMuch ? device.createComputePipelineAsync({ layout: "auto", compute: { module } }) : Promise.resolve();
                await pipeline.catch((error) => wrong.push(`${name}: ${error.message}`));
                const error = await device.popErrorScope();
                if (error) wrong.push(`${name}: ${error.message}`);
            }
            // The compiler is there, and says what is wrong.
            device.pushErrorScope("validation");
            const bad = device.createShaderModule({
                code: `@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) { if (lane < 3u) { workgroupBarrier(); } }`,
            });
            const { messages } = await bad.getCompilationInfo();
            await device.popErrorScope();
            return { all: all.length, taken: taken.length, wrong, uniformity: messages.map(({ message }) => message).join(" ") };
        }, process.argv.includes("--pipelines"));
        found.wrong.forEach((line) => console.log(line));
        assert.equal(found.wrong.length, 0, `${found.wrong.length} messages about ${found.taken} kernels`);
        assert.match(found.uniformity, /uniform control flow/);
        assert.ok(said.every((line) => line.includes("uniform control flow")), said.join("\n"));
        said.length = 0;
        assert.ok(found.taken > 500, `only ${found.taken} kernels`);
        return `${found.taken} of ${found.all} kernels without a message`;
    },
};

const { server, url } = await serve({ "": web });
const { context, close } = await launch();
const failed = await run(context, `${url}test/blank.html`, tests);
await close();
server.close();
process.exit(failed ? 1 : 0);
