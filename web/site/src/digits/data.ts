// The 1,797 digits of the repository's data/digits.bin: a label, then 64 pixels of five bits from 0 (paper) to 16 (ink).
import packedUrl from "../../../../data/digits.bin?url";

export const SIDE = 8;
export const PIXELS = SIDE * SIDE;
export const INK = 16;
/** Images to train on, which come first. */
const TRAINING = 1437;
const ALL = 1797;

export interface Images {
    inputs: Uint8Array;
    targets: Int32Array;
}

export async function loadDigits(): Promise<{ training: Images; test: Images }> {
    const response = await fetch(packedUrl);
    if (!response.ok) throw new Error(`the digits cannot be loaded: ${response.status} ${response.statusText}`);
    const packed = new Uint8Array(await response.arrayBuffer());
    const record = 1 + (PIXELS * 5) / 8;
    const [inputs, targets] = [new Uint8Array(ALL * PIXELS), new Int32Array(ALL)];
    for (let image = 0; image < ALL; image++) {
        const start = image * record;
        targets[image] = packed[start] ?? 0;
        for (let pixel = 0; pixel < PIXELS; pixel++) {
            const bit = 5 * pixel;
            const at = start + 1 + (bit >> 3);
            inputs[image * PIXELS + pixel] = (((packed[at] ?? 0) | ((packed[at + 1] ?? 0) << 8)) >> (bit & 7)) & 31;
        }
    }
    const part = (from: number, to: number): Images => ({ inputs: inputs.subarray(from * PIXELS, to * PIXELS), targets: targets.subarray(from, to) });
    return { training: part(0, TRAINING), test: part(TRAINING, ALL) };
}

/** A digit that was drawn here. */
export interface Own {
    pixels: number[];
    label: number;
}

/** The digits with those that were drawn here, each so often that it counts. */
export function withOwn(images: Images, own: readonly Own[], copies = 12): Images {
    if (!own.length) return images;
    const before = images.targets.length;
    const rows = before + own.length * copies;
    const [inputs, targets] = [new Uint8Array(rows * PIXELS), new Int32Array(rows)];
    inputs.set(images.inputs);
    targets.set(images.targets);
    for (let row = before; row < rows; row++) {
        const { pixels, label } = own[(row - before) % own.length] as Own;
        inputs.set(pixels, row * PIXELS);
        targets[row] = label;
    }
    return { inputs, targets };
}
