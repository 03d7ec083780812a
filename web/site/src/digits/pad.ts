// A sheet to draw one digit on, by pointer or by keyboard, and what a scanner of the training data would make of it.
import { $, colour, onTheme } from "../dom.ts";
import { INK, PIXELS, SIDE } from "./data.ts";

type Point = [x: number, y: number];

/** The scanner's sheet is 32 x 32, and a digit fills its height. */
const SHEET = 32;
/** Widest that a digit becomes. */
const WIDEST = 26;
/** The training digits have about as much ink each, of dots of the sheet, in narrow or in wide strokes. */
const DOTS = 310;
const [NARROWEST, THICKEST] = [3.4, 8];
/** Each dot of the sheet is drawn so many times finer. */
const FINE = 4;
/** How far an arrow key moves, as a part of the side. */
const KEY_STEP = 1 / 24;

export class Pad {
    readonly #canvas: HTMLCanvasElement;
    readonly #pen: CanvasRenderingContext2D;
    readonly #changed: () => void;
    /** Lines in parts of the side. */
    #strokes: Point[][] = [];
    #drawing = false;
    #cursor: Point = [0.5, 0.3];
    #shown = false;

    constructor(canvas: HTMLCanvasElement, changed: () => void) {
        [this.#canvas, this.#changed] = [canvas, changed];
        this.#pen = canvas.getContext("2d") as CanvasRenderingContext2D;
        canvas.addEventListener("pointerdown", (event) => this.#begin(event));
        canvas.addEventListener("pointermove", (event) => this.#move(event));
        for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (this.#drawing = false));
        canvas.addEventListener("keydown", (event) => this.#key(event));
        for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.#look(false));
        onTheme(() => this.#paint());
    }

    get empty(): boolean {
        return !this.#strokes.length;
    }

    clear(): void {
        [this.#strokes, this.#drawing] = [[], false];
        this.#update();
    }

    #at(event: PointerEvent): Point {
        const { left, top, width, height } = this.#canvas.getBoundingClientRect();
        return [(event.clientX - left) / width, (event.clientY - top) / height];
    }

    #begin(event: PointerEvent): void {
        if (event.button) return;
        event.preventDefault();
        this.#canvas.focus({ preventScroll: true });
        this.#canvas.setPointerCapture(event.pointerId);
        [this.#drawing, this.#shown] = [true, false];
        this.#strokes.push([this.#at(event)]);
        this.#update();
    }

    #move(event: PointerEvent): void {
        if (!this.#drawing) return;
        const events = event.getCoalescedEvents?.() ?? [];
        for (const part of events.length ? events : [event]) this.#strokes.at(-1)?.push(this.#at(part));
        this.#update();
    }

    #key(event: KeyboardEvent): void {
        const moves: Record<string, Point> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
        const move = moves[event.key];
        if (move) {
            const clamp = (x: number) => Math.min(0.96, Math.max(0.04, x));
            this.#cursor = [clamp(this.#cursor[0] + move[0] * KEY_STEP), clamp(this.#cursor[1] + move[1] * KEY_STEP)];
            if (this.#drawing) this.#strokes.at(-1)?.push(this.#cursor);
        } else if (event.key === " ") {
            this.#drawing = !this.#drawing;
            if (this.#drawing) this.#strokes.push([this.#cursor]);
        } else if (event.key === "Delete" || event.key === "Backspace") {
            return this.clear();
        } else return;
        event.preventDefault();
        this.#shown = true;
        this.#update();
    }

    #look(shown: boolean): void {
        this.#shown = shown && this.#shown;
        this.#paint();
    }

    #update(): void {
        this.#paint();
        this.#changed();
    }

    #paint(): void {
        const { width } = this.#canvas;
        this.#pen.clearRect(0, 0, width, width);
        draw(this.#pen, this.#strokes, ([x, y]) => [x * width, y * width], width * 0.075, colour("ink"));
        if (!this.#shown) return;
        this.#pen.beginPath();
        this.#pen.arc(this.#cursor[0] * width, this.#cursor[1] * width, 13, 0, 7);
        this.#pen.lineWidth = 4;
        this.#pen.strokeStyle = colour(this.#drawing ? "orange" : "blue");
        this.#pen.stroke();
    }

    /** The drawing as the training data has digits: as high as the sheet, in the middle, the ink of each of 8 x 8 squares. */
    pixels(): Uint8Array {
        const result = new Uint8Array(PIXELS);
        if (!this.#strokes.length) return result;
        const { place, width } = fitted(this.#strokes);
        const sheet = new OffscreenCanvas(FINE * SHEET, FINE * SHEET).getContext("2d", { willReadFrequently: true });
        if (!sheet) return result;
        draw(sheet, this.#strokes, place, width, "#000");
        const { data } = sheet.getImageData(0, 0, FINE * SHEET, FINE * SHEET);
        const square = (FINE * SHEET) / SIDE;
        for (let pixel = 0; pixel < PIXELS; pixel++) {
            let ink = 0;
            for (let dot = 0; dot < square * square; dot++) {
                const x = (pixel % SIDE) * square + (dot % square);
                const y = Math.floor(pixel / SIDE) * square + Math.floor(dot / square);
                ink += (data[4 * (y * FINE * SHEET + x) + 3] ?? 0) / 255;
            }
            result[pixel] = Math.round((INK * ink) / (square * square));
        }
        return result;
    }
}

/** Where points lie on the fine sheet, and how wide the pen is there. */
function fitted(strokes: readonly Point[][]): { place: (point: Point) => Point; width: number } {
    const points = strokes.flat();
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const length = strokes.reduce((sum, stroke) => sum + stroke.reduce((part, [x, y], index) => {
        const [fromX, fromY] = stroke[Math.max(0, index - 1)] as Point;
        return part + Math.hypot(x - fromX, y - fromY);
    }, 0), 0);
    // The pen is as wide as the length of the lines lets it be, which depends on the room that it leaves.
    let [scale, pen] = [1, 5];
    for (let round = 0; round < 4; round++) {
        // A dot stays small, and what is wider than high is not blown up to the full height.
        scale = Math.min((SHEET - pen) / Math.max(bottom - top, 0.1), (WIDEST - pen) / Math.max(right - left, 0.01));
        pen = Math.min(THICKEST, Math.max(NARROWEST, DOTS / Math.max(1, length * scale)));
    }
    const place = ([x, y]: Point): Point => [
        FINE * ((x - (left + right) / 2) * scale + SHEET / 2), FINE * ((y - (top + bottom) / 2) * scale + SHEET / 2),
    ];
    return { place, width: FINE * pen };
}

type Pen = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

function draw(pen: Pen, strokes: readonly Point[][], place: (point: Point) => Point, width: number, ink: string): void {
    Object.assign(pen, { lineWidth: width, strokeStyle: ink, lineCap: "round", lineJoin: "round" });
    for (const stroke of strokes) {
        pen.beginPath();
        stroke.forEach((point, index) => (index ? pen.lineTo(...place(point)) : pen.moveTo(...place(point))));
        // A line of no length has round ends, too.
        if (stroke.length === 1) pen.lineTo(...place(stroke[0] as Point));
        pen.stroke();
    }
}

/** Small pictures of 8 x 8. */
export function paint(canvas: HTMLCanvasElement, pixels: ArrayLike<number>): void {
    const pen = canvas.getContext("2d");
    if (!pen) return;
    pen.clearRect(0, 0, SIDE, SIDE);
    pen.fillStyle = colour("ink");
    for (let pixel = 0; pixel < PIXELS; pixel++) {
        pen.globalAlpha = (pixels[pixel] ?? 0) / INK;
        pen.fillRect(pixel % SIDE, Math.floor(pixel / SIDE), 1, 1);
    }
}

/** The sheet of the page. */
export const makePad = (changed: () => void): Pad => new Pad($<HTMLCanvasElement>("pad"), changed);
