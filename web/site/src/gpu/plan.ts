// A step of a model as a picture: the memory that is in use at each kernel launch, and the launches that move most bytes.
import type { About } from "wgrad";
import { $, el, svg } from "../dom.ts";
import { bytes, count, short } from "../format.ts";

const [HEIGHT, LEFT, TOP, BOTTOM] = [300, 66, 10, 268];
/** The picture is as wide as its place, within these. */
const [NARROWEST, WIDEST] = [280, 1080];
/** So many of the dearest operations are listed. */
const LISTED = 12;

interface Band {
    name: string;
    fill: string;
    bytes: number[];
}

/** The bands from the bottom up: what is always there, then what comes and goes. */
function bands({ memory, plan }: About): Band[] {
    const always = (name: string, fill: string, size: number) => ({ name, fill, bytes: plan.map(() => size) });
    return [
        always("weights", "var(--blue)", memory.weights),
        always("optimizer", "color-mix(in srgb, var(--blue) 60%, var(--card))", memory.optimizer),
        always("gradients", "color-mix(in srgb, var(--blue) 34%, var(--card))", memory.gradients),
        always("inputs and others", "color-mix(in srgb, var(--soft) 40%, var(--card))", memory.inputs + memory.other),
        { name: "activations that wait for their gradients", fill: "var(--orange)", bytes: plan.map((line) => line[4]) },
        { name: "workspace", fill: "color-mix(in srgb, var(--orange) 45%, var(--card))", bytes: plan.map((line) => line[5]) },
    ].filter((band) => band.bytes.some((size) => size > 0));
}

let redraw = (): void => {};
let drawn = 0;

/** How wide the picture is to be. */
const room = (): number => Math.round(Math.min(WIDEST, Math.max(NARROWEST, $("plan").clientWidth)));

/** Draws the model's plan, and again when its place becomes wider or narrower. */
export function showPlan(about: About): void {
    if (!drawn) new ResizeObserver(() => room() !== drawn && redraw()).observe($("plan"));
    redraw = () => draw(about);
    redraw();
}

function draw(about: About): void {
    drawn = room();
    const { plan, memoryBytes, parameters } = about;
    const all = bands(about);
    const sums = plan.map((_, at) => all.reduce((sum, band) => sum + (band.bytes[at] ?? 0), 0));
    const most = Math.max(1, ...sums);
    const peak = sums.indexOf(most);
    const flops = plan.reduce((sum, line) => sum + line[2], 0);
    $("plan-about").textContent = `${count(parameters)} weights; ${count(plan.length)} kernel launches a step, ${short(flops)} operations; ${bytes(memoryBytes)} in all buffers, `
        + `at most ${bytes(most)} in use at once, at launch ${peak + 1}: ${plan[peak]?.[0] ?? ""}.`;
    const legend = el("div", { className: "bands", ariaHidden: "true" }, ...all.map(({ name, fill }) => {
        const key = el("span", { className: "key" }, name);
        key.style.setProperty("--key", fill);
        return key;
    }));
    $("plan").replaceChildren(legend, picture(all, most, peak, drawn), dearest(about));
}

function picture(all: Band[], most: number, peak: number, width: number): SVGElement {
    const launches = all[0]?.bytes.length ?? 0;
    const right = width - 8;
    const x = (at: number) => LEFT + ((right - LEFT) * at) / Math.max(1, launches);
    const y = (size: number) => BOTTOM - ((BOTTOM - TOP) * size) / (most * 1.04);
    const label = `Memory in use at each of ${launches} kernel launches; most at launch ${peak + 1}: ${bytes(most)}`;
    const image = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
    let unit = 1024;
    while (most / unit > 6) unit *= 2;
    for (let size = 0; size <= most; size += unit) {
        image.append(
            svg("line", { x1: LEFT, x2: right, y1: y(size), y2: y(size), stroke: "var(--line)" }),
            svg("text", { x: LEFT - 8, y: y(size) + 4, "text-anchor": "end" }, bytes(size).replace(".0", "")),
        );
    }
    let below = new Array<number>(launches).fill(0);
    for (const { fill, bytes: sizes, name } of all) {
        const above = below.map((size, at) => size + (sizes[at] ?? 0));
        // A value is there for the whole of a launch.
        const up = above.map((size, at) => `${x(at).toFixed(1)} ${y(size).toFixed(1)}L${x(at + 1).toFixed(1)} ${y(size).toFixed(1)}`);
        const down = below.map((size, at) => `${x(at + 1).toFixed(1)} ${y(size).toFixed(1)}L${x(at).toFixed(1)} ${y(size).toFixed(1)}`).reverse();
        image.append(svg("path", { d: `M${up.join("L")}L${down.join("L")}Z`, fill }, svg("title", {}, name)));
        below = above;
    }
    const middle = x(peak + 0.5);
    image.append(
        svg("line", { x1: middle, x2: middle, y1: TOP, y2: BOTTOM, stroke: "var(--ink)", "stroke-dasharray": "3 3" }),
        svg("text", { x: LEFT, y: BOTTOM + 20 }, "first launch"),
        svg("text", { x: right, y: BOTTOM + 20, "text-anchor": "end" }, `launch ${launches}`),
    );
    return image;
}

/** The operations whose launches read and write most. */
function dearest({ plan }: About): HTMLElement {
    const sums = new Map<string, { moved: number; flops: number }>();
    for (const [label, , flops, moved] of plan) {
        const sum = sums.get(label) ?? { moved: 0, flops: 0 };
        sums.set(label, { moved: sum.moved + moved, flops: sum.flops + flops });
    }
    const listed = [...sums].sort((a, b) => b[1].moved - a[1].moved).slice(0, LISTED);
    const most = listed[0]?.[1].moved ?? 1;
    const list = el("ol", { className: "kernels", ariaLabel: "Operations that move most bytes" });
    list.append(...listed.map(([label, { moved, flops }]) => {
        const bar = el("div", { className: "fill" });
        bar.style.width = `${(100 * moved) / most}%`;
        return el("li", {}, el("span", { title: label }, label), el("div", { className: "bar-cell" }, bar), el("span", { className: "number" }, bytes(moved)), el("span", { className: "number" }, `${short(flops)}FLOP`));
    }));
    return el("div", {}, el("h3", {}, "What moves most bytes"), list);
}
