// What this browser keeps for later visits, in IndexedDB: measured choices of kernels by adapter, compiled plans by what they are of. Runs in the
// worker. A browser that keeps nothing (a private window) knows none, and remembers none.
import type { Kernel } from "./types.ts";

type Store = "choices" | "plans";

/** So many plans are kept at most; one more, and the others are forgotten. */
const MOST_PLANS = 32;

async function ask<T>(name: Store, mode: IDBTransactionMode, question: (store: IDBObjectStore) => IDBRequest<T>): Promise<T | undefined> {
    const answer = <R>(request: IDBRequest<R>) => new Promise<R>((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
    try {
        const opening = indexedDB.open("wgrad", 2);
        opening.onupgradeneeded = () => {
            const { result } = opening;
            for (const store of ["choices", "plans"]) {
                if (!result.objectStoreNames.contains(store)) result.createObjectStore(store);
            }
        };
        const database = await answer(opening);
        try {
            return await answer(question(database.transaction(name, mode).objectStore(name)));
        } finally {
            database.close();
        }
    } catch {
        return undefined;
    }
}

/** What was measured in this browser. */
export const recallChoices = (adapter: string): Promise<Record<string, Kernel> | undefined> => ask("choices", "readonly", (store) => store.get(adapter));

/** Keeps it, or forgets it. */
export async function rememberChoices(adapter: string, kernels: Record<string, Kernel> | undefined): Promise<void> {
    if (kernels) await ask("choices", "readwrite", (store) => store.put(kernels, adapter));
    else await ask("choices", "readwrite", (store) => store.delete(adapter));
}

/** What was compiled in this browser for a key. */
export const recallPlan = (key: string): Promise<Uint8Array | undefined> => ask("plans", "readonly", (store) => store.get(key));

export const forgetPlans = (): Promise<undefined> => ask("plans", "readwrite", (store) => store.clear());

export async function rememberPlan(key: string, plan: Uint8Array): Promise<void> {
    const count = (own?: string) => ask("plans", "readonly", (store) => store.count(own));
    if (((await count()) ?? 0) >= MOST_PLANS && !(await count(key))) await forgetPlans();
    await ask("plans", "readwrite", (store) => store.put(plan, key));
}
