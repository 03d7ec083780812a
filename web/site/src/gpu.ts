// The page's one device, which can be lost and opened again, and what is known of the models on it.
import { type About, type Device, open } from "wgrad";

/** A promise that is never kept, and how it is broken. */
function closing(): { promise: Promise<never>; reject: (why: Error) => void } {
    let reject: (why: Error) => void = () => {};
    const promise = new Promise<never>((_, refuse) => (reject = refuse));
    promise.catch(() => undefined); // It may be that nobody waits.
    return { promise, reject };
}

export class Gpu {
    #opening: Promise<Device> | undefined;
    #closed = closing();
    /** Counts devices: a model of an earlier one is gone. */
    generation = 0;
    /** The models in training, by the names of their parts of the page. */
    readonly models = new Map<string, About>();

    device(): Promise<Device> {
        this.#opening ??= open();
        return this.#opening;
    }

    /** Why the device is lost, if it is. */
    async lost(): Promise<string | undefined> {
        return (await (await this.device()).state()).lost;
    }

    /** What a promise of the present device gives; an error as soon as that is given up, whose promises are never kept. */
    held<T>(work: Promise<T>): Promise<T> {
        return Promise.race([work, this.#closed.promise]);
    }

    /** Gives the device up, with all models on it, and opens another. */
    async reopen(): Promise<void> {
        const [before, closed] = [this.#opening, this.#closed];
        this.generation += 1;
        this.#closed = closing();
        this.models.clear();
        this.#opening = open();
        (await before?.catch(() => undefined))?.close();
        closed.reject(new Error("the GPU was opened anew"));
        await this.#opening;
    }
}
