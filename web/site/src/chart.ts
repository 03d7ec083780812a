// Curves over steps, in the colours of the theme.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { colour, onTheme } from "./dom.ts";

export interface Curve {
    /** A colour of the theme. */
    colour: string;
    width?: number;
    /** Dots at the values, which are few. */
    dots?: boolean;
}

/** Steps, then the values of each curve; null where there is none. */
export type Values = [number[], ...(number | null)[][]];

export interface ChartOptions {
    /** What is drawn, for those who cannot see it. */
    label: string;
    curves: Curve[];
    /** The ends of the vertical axis; by the data if not given. */
    range?: [number, number];
    format(value: number): string;
}

export class Chart {
    readonly #holder: HTMLElement;
    readonly #options: ChartOptions;
    #plot: uPlot | undefined;
    #values: Values;
    #waiting = false;

    constructor(holder: HTMLElement, options: ChartOptions) {
        [this.#holder, this.#options] = [holder, options];
        this.#values = [[], ...options.curves.map(() => [])];
        holder.setAttribute("role", "img");
        holder.setAttribute("aria-label", options.label);
        onTheme(() => this.#make());
        new ResizeObserver(() => {
            const { clientWidth: width, clientHeight: height } = holder;
            if (width && height && this.#plot && (this.#plot.width !== width || this.#plot.height !== height)) this.#plot.setSize({ width, height });
        }).observe(holder);
    }

    /** Shows these, with the next picture. `summary` is read to those who cannot see it. */
    set(values: Values, summary: string): void {
        this.#values = values;
        this.#holder.setAttribute("aria-label", `${this.#options.label}. ${summary}`);
        if (this.#waiting) return;
        this.#waiting = true;
        requestAnimationFrame(() => {
            this.#waiting = false;
            this.#plot?.setData(this.#values);
        });
    }

    #make(): void {
        const { curves, range, format } = this.#options;
        const [line, soft] = [colour("line"), colour("soft")];
        const font = "11.5px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";
        const axis = { stroke: soft, font, grid: { stroke: line, width: 1 }, ticks: { show: false }, gap: 6 };
        // Before the first value there are empty axes.
        const steps = (_: uPlot, min: number | null, max: number | null): [number, number] => [min ?? 1, Math.max(max ?? 1, (min ?? 1) + 20)];
        const heights = (_: uPlot, min: number | null, max: number | null): [number, number] => {
            const [low, high] = min === null || max === null ? [0, 5] : uPlot.rangeNum(min, max, 0.1, true);
            return range ?? [low ?? 0, high ?? 5];
        };
        this.#plot?.destroy();
        this.#plot = new uPlot({
            width: this.#holder.clientWidth || 400,
            height: this.#holder.clientHeight || 150,
            legend: { show: false },
            cursor: { show: false },
            scales: { x: { time: false, range: steps }, y: { range: heights } },
            axes: [{ ...axis, size: 26, values: (_, splits) => splits.map((step) => step.toLocaleString("en")) }, { ...axis, size: 46, values: (_, splits) => splits.map(format) }],
            series: [{}, ...curves.map(({ colour: name, width = 2, dots = false }) => ({
                stroke: colour(name), width, spanGaps: true, points: { show: dots, size: 6, fill: colour(name), stroke: colour(name) },
            }))],
        }, this.#values, this.#holder);
    }
}

/** Each value with some of those before it. */
export function smooth(values: readonly number[], weight = 0.9): number[] {
    let [sum, total] = [0, 0];
    return values.map((value) => {
        [sum, total] = [weight * sum + (1 - weight) * value, weight * total + (1 - weight)];
        return sum / total;
    });
}

/** At most so many of the rows, evenly, with the last: more cannot be seen. */
export function thin<T>(rows: readonly T[], most = 600): T[] {
    const every = Math.ceil(rows.length / most);
    return rows.filter((_, index) => (rows.length - 1 - index) % every === 0);
}
