// What the page remembers between visits, beside the models' checkpoints: curves, drawings, texts. In IndexedDB; a browser that
// keeps nothing (a private window) costs the memory, not the page.

let opened: Promise<IDBDatabase> | undefined;

function database(): Promise<IDBDatabase> {
    opened ??= new Promise((resolve, reject) => {
        const request = indexedDB.open("wgrad-site", 1);
        request.onupgradeneeded = () => request.result.createObjectStore("kept");
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
    return opened;
}

async function ask<T>(mode: IDBTransactionMode, question: (store: IDBObjectStore) => IDBRequest<T>): Promise<T | undefined> {
    try {
        const store = (await database()).transaction("kept", mode).objectStore("kept");
        return await new Promise((resolve, reject) => {
            const request = question(store);
            request.onsuccess = () => resolve(request.result);
            request.onerror = () => reject(request.error);
        });
    } catch {
        return undefined;
    }
}

export const recall = <T>(key: string): Promise<T | undefined> => ask<T>("readonly", (store) => store.get(key) as IDBRequest<T>);
export const remember = async (key: string, value: unknown): Promise<void> => void (await ask("readwrite", (store) => store.put(value, key)));
export const forget = async (key: string): Promise<void> => void (await ask("readwrite", (store) => store.delete(key)));
