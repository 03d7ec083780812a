// Which kernels a GPU is fastest with, as measured: as five numbers each for the program, and in the form of the file that the command line
// tool's `wgrad tune` writes. Runs in the worker.
import type { Choices, Kernel } from "./types.ts";

/** Five numbers: tiles in m, n and k (of a subgroup its lanes), rows, quads. */
export function toNumbers(kernel: Kernel): number[] {
    if (kernel === "Direct") return [0, 0, 0, 0, 0];
    if ("Register" in kernel) return [0, 0, 0, kernel.Register.rows, kernel.Register.quads];
    if ("Subgroup" in kernel) return [kernel.Subgroup.lanes, 0, 0, kernel.Subgroup.rows, kernel.Subgroup.quads];
    const { tile_m, tile_n, tile_k, rows, quads } = kernel.Tiled;
    return [tile_m, tile_n, tile_k, rows, quads];
}

export function fromNumbers([tile_m = 0, tile_n = 0, tile_k = 0, rows = 0, quads = 0]: readonly number[]): Kernel {
    if (!rows) return "Direct";
    if (!tile_m) return { Register: { rows, quads } };
    return tile_n ? { Tiled: { tile_m, tile_n, tile_k, rows, quads } } : { Subgroup: { lanes: tile_m, rows, quads } };
}

/** The kernels of an adapter in a file; an error says what is wrong with it. */
export function kernelsOf(file: Choices, adapter: string): Record<string, Kernel> {
    if (file?.format !== 1 || typeof file.adapters !== "object") {
        throw new Error("these are no choices of kernels: they have `format: 1` and `adapters`, as `device.choices()` and `wgrad tune --export` give them");
    }
    const kernels = file.adapters[adapter] ?? {};
    for (const [product, kernel] of Object.entries(kernels)) {
        let numbers: number[] = [];
        try {
            numbers = toNumbers(kernel);
        } catch {
            // Said below.
        }
        if (numbers.length !== 5 || !numbers.every((n) => Number.isInteger(n) && n >= 0 && n < 1024)) {
            throw new Error(`the choice for the product "${product}" of "${adapter}" is no kernel: ${JSON.stringify(kernel)}`);
        }
    }
    return kernels;
}
