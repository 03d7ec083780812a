// The text to learn: pasted, dropped, opened, or the sample that lies beside the page.
import sampleUrl from "../assets/sample.txt?url";
import { $, onFile } from "../dom.ts";
import { bytes, message } from "../format.ts";

/** Larger texts are kept out of the text field, which would become slow. */
const SHOWN = 300_000;
const MOST = 256 << 20;

export class Source {
    /** As the model sees it: bytes. */
    text: Uint8Array = new Uint8Array();
    readonly #changed: () => void;
    readonly #area = $<HTMLTextAreaElement>("text-input");

    constructor(changed: () => void) {
        this.#changed = changed;
        const area = this.#area;
        area.addEventListener("input", () => this.set(new TextEncoder().encode(area.value), true));
        for (const name of ["dragover", "dragleave", "drop"]) area.addEventListener(name, () => area.classList.toggle("over", name === "dragover"));
        area.addEventListener("dragover", (event) => event.preventDefault());
        area.addEventListener("drop", (event) => {
            const file = event.dataTransfer?.files[0];
            if (!file) return;
            event.preventDefault();
            void this.#open(file);
        });
        onFile($<HTMLInputElement>("text-file"), (file) => void this.#open(file));
        $("text-sample").addEventListener("click", () => void this.sample());
    }

    set(text: Uint8Array, typed = false): void {
        this.text = text;
        const words = new TextDecoder().decode(text.subarray(0, SHOWN));
        if (!typed) this.#area.value = text.length > SHOWN ? `${words}\n…` : words;
        const short = text.length && text.length < 2000 ? " Rather short: it will soon know it by heart." : "";
        this.#say(`${bytes(text.length)}${text.length > SHOWN ? `, the first ${bytes(SHOWN)} are shown` : ""}.${short}`);
        this.#changed();
    }

    #say(words: string): void {
        $("text-about").textContent = words;
    }

    async sample(): Promise<void> {
        try {
            const response = await fetch(sampleUrl);
            if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
            this.set(new Uint8Array(await response.arrayBuffer()));
        } catch (error) {
            this.#say(`The sample cannot be loaded: ${message(error)}`);
        }
    }

    async #open(file: File): Promise<void> {
        if (file.size > MOST) return this.#say(`${file.name} has ${bytes(file.size)}; a page takes at most ${bytes(MOST)}. The command line tool takes files of any size.`);
        try {
            this.set(new Uint8Array(await file.arrayBuffer()));
        } catch (error) {
            this.#say(`${file.name} cannot be read: ${message(error)}`);
        }
    }
}
