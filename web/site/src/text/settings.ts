// What can be chosen about a text's model, and the fields in which it is.
import { gpt, type Definition, type TrainOptions } from "wgrad";
import { $, el } from "../dom.ts";

export interface Settings {
    layers: number;
    heads: number;
    width: number;
    context: number;
    batch: number;
    steps: number;
    lr: number;
}

/** The first is the command line tool's default. */
const SIZES: [name: string, settings: Settings][] = [
    ["Small: 0.2 million weights", { layers: 3, heads: 4, width: 64, context: 64, batch: 8, steps: 1600, lr: 4e-3 }],
    ["Medium: 1 million", { layers: 4, heads: 4, width: 128, context: 128, batch: 16, steps: 3000, lr: 2e-3 }],
    ["Large: 11 million", { layers: 6, heads: 6, width: 384, context: 256, batch: 16, steps: 5000, lr: 1e-3 }],
];
const KEYS = ["layers", "heads", "width", "context", "batch", "steps", "lr"] as const;

const field = (key: keyof Settings): HTMLInputElement => $<HTMLInputElement>(`text-${key}`);

/** Fills the list of sizes, and the fields from it. */
export function makeSettings(): void {
    const select = $<HTMLSelectElement>("text-size");
    select.append(...SIZES.map(([name], index) => el("option", { value: String(index) }, name)), el("option", { value: "own", hidden: true }, "Your own"));
    select.addEventListener("change", () => write(SIZES[Number(select.value)]?.[1] as Settings));
    for (const key of KEYS) if (key !== "steps") field(key).addEventListener("input", () => (select.value = "own"));
    write((SIZES[0] as (typeof SIZES)[0])[1]);
}

export function write(settings: Settings): void {
    for (const key of KEYS) field(key).value = String(settings[key]);
    const same = SIZES.findIndex(([, size]) => KEYS.every((key) => key === "steps" || size[key] === settings[key]));
    $<HTMLSelectElement>("text-size").value = same < 0 ? "own" : String(same);
}

export function read(): Settings {
    const settings = {} as Settings;
    for (const key of KEYS) {
        const number = field(key).valueAsNumber;
        if (!(number > 0)) throw new Error(`the field “${field(key).labels?.[0]?.textContent?.trim()}” wants a number above 0`);
        settings[key] = number;
    }
    return settings;
}

/** Whether two trainings are of the same model. */
export const alike = (a: Settings, b: Settings): boolean => KEYS.every((key) => a[key] === b[key]);

export function definition({ layers, heads, width, context, batch, steps, lr }: Settings): [Definition, TrainOptions] {
    return [gpt({ layers, heads, width, context }), { batch, steps, lr }];
}

/** The settings with the size that a weights file says of its model. */
export function sized(settings: Settings, metadata: Record<string, string>): Settings {
    const sizes = { ...settings };
    for (const key of ["layers", "heads", "width", "context"] as const) {
        const number = Number(metadata[`model.${key}`]);
        if (!(number > 0)) throw new Error(`the file does not say the ${key} of its model; files of this page and of wgrad's text runs do`);
        sizes[key] = number;
    }
    return sizes;
}
