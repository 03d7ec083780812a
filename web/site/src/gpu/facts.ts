// What the browser says of its adapter.
import { $, el } from "../dom.ts";
import { bytes, count } from "../format.ts";
import type { Device } from "wgrad";

interface AdapterInfo {
    vendor?: string;
    architecture?: string;
    device?: string;
    description?: string;
}

interface Adapter {
    info?: AdapterInfo;
    features: Iterable<string>;
    limits: Record<string, unknown>;
}

const list = (rows: [string, string][]): HTMLElement[] => rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);

const CLASSES: Record<string, string> = { Cpu: "a processor (software)", Discrete: "a graphics card", Integrated: "an integrated GPU", Apple: "a GPU by Apple" };

/** Fills the card; gives the adapter's name for results. */
export async function showAdapter(device: Device): Promise<string> {
    const gpu = (navigator as unknown as { gpu: { requestAdapter(options: object): Promise<Adapter | null> } }).gpu;
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    const { vendor, architecture, device: model, description } = adapter?.info ?? {};
    const name = description || [vendor, architecture, model].filter(Boolean).join(" ") || device.adapter || "not told";
    const { profile } = device;
    $("adapter").replaceChildren(...list([
        ["Name", name],
        ["Vendor", vendor || "not told"],
        ["Architecture", architecture || "not told"],
        ["Taken for", CLASSES[profile.class] ?? profile.class],
        ["Half precision", profile.shaderF16 ? "yes" : "no"],
        ["Largest buffer", bytes(profile.maxBufferBytes)],
        ["Largest binding", bytes(profile.maxBindingBytes)],
        ["Workgroup memory", bytes(profile.maxWorkgroupBytes)],
        ["Threads of a workgroup", count(profile.maxInvocations)],
    ]));
    const features = [...(adapter?.features ?? [])].sort();
    $("features").replaceChildren(...features.map((feature) => el("li", {}, feature)));
    // Limits are getters of the prototype.
    const limits: [string, string][] = [];
    for (const key in adapter?.limits) limits.push([key, count(Number(adapter?.limits[key]))]);
    $("limits").replaceChildren(...list(limits.sort()));
    return name;
}
