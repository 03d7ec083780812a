// What the package's functions take and give.

/** A layer, as the functions of `layers.ts` make it. */
export type Layer = string | { readonly [name: string]: unknown };

/** A model, as {@link sequential}, {@link gpt} and {@link digitsNet} make it. */
export interface Definition {
    readonly task?: "text" | "digits";
    readonly model?: { readonly [key: string]: unknown };
    readonly config: { readonly [key: string]: unknown };
}

/** How a model is trained: AdamW, its rate following a schedule. */
export interface TrainOptions {
    /** Samples of a step. */
    batch?: number;
    /** Micro-batches that a step is split into, for less memory. */
    accumulate?: number;
    /** Steps over which the schedule runs. */
    steps?: number;
    /** Largest learning rate. */
    lr?: number;
    weightDecay?: number;
    /** Steps over which the rate rises. */
    warmup?: number;
    /** Largest norm of the gradients; 0 does not clip. */
    clip?: number;
    schedule?: "cosine" | "constant" | "onecycle";
    /** The same seed gives the same weights, batches and losses. */
    seed?: number;
    /** Changes to images while training: largest shift as a fraction of the side, angle in degrees, change of size. */
    shift?: number;
    rotate?: number;
    scale?: number;
    /** Probability that an image is mirrored. */
    flip?: number;
}

/** What is known of a model before its first step. */
export interface About {
    parameters: number;
    /** Kernel launches of a step. */
    dispatches: number;
    /** Bytes on the device by category. */
    memory: { weights: number; gradients: number; optimizer: number; other: number; activations: number; inputs: number };
    /** All of them: the exact peak. */
    memoryBytes: number;
    batch: number;
    steps: number;
    /** Bytes of text that a prediction looks back on; 0 where there is no text. */
    context: number;
    /** Numbers that come out for a sample. */
    outputs: number;
    /**
     * Each launch of a step: the operation it serves, its kernel, FLOPs, bytes read and written; bytes that wait meanwhile for a
     * later part of the step, and of values that are made and used at once.
     */
    plan: [label: string, kernel: string, flops: number, bytes: number, activations: number, workspace: number][];
}

/** What a step of training says. */
export interface Metrics {
    /** Counted from 1. */
    step: number;
    /** Before the update: in nats, or the mean square. */
    loss: number;
    lr: number;
    /** The fraction of the batch that was classified right, where there are classes. */
    accuracy?: number;
    /** Global norm of the gradients before clipping. */
    gradNorm?: number;
    /** Milliseconds since the step before. */
    ms: number;
}

/** What a test found. */
export interface TestResult {
    loss: number;
    accuracy?: number;
    /** `confusion[is][takenFor]`: how often, where there are classes. */
    confusion?: number[][];
}

/** What kernels may assume of the GPU. */
export interface Profile {
    class: string;
    shaderF16: boolean;
    maxStorageBuffers: number;
    maxInvocations: number;
    maxWorkgroupBytes: number;
    maxBindingBytes: number;
    maxBufferBytes: number;
}

/** Rows of numbers. */
export type Numbers = Float32Array | Uint8Array | Int32Array | readonly number[];

/** What a model learns from: rows with what is to be learned of each, or a text. */
export type TrainingData =
    | { inputs: Numbers; targets: Numbers }
    | { text: string | Uint8Array; /** The part held out for tests, a tenth if not given. */ validation?: number };

/** How long to train, and what happens meanwhile. */
export interface FitOptions {
    /** Train until so many steps are made in all; the steps of the schedule if not given. */
    steps?: number;
    /** Stops at once. */
    signal?: AbortSignal;
    /** Saves everything to the browser's private files every so many steps and at the end; see `Model.resume`. */
    checkpoint?: { name: string; every?: number };
}

/** How far something is that takes a while. */
export type Progress = (stage: "download" | "plan" | "ready", message: string) => void;

/** How to continue a text. */
export interface GenerateOptions {
    /** Bytes to add. */
    count?: number;
    /** 0 always takes the likeliest, 1 follows the model, more is wilder. */
    temperature?: number;
    /** Choose among so many of the likeliest; 0 among all. */
    topK?: number;
    seed?: number;
}

/** A safetensors file, or where one is: a Blob, its bytes, a URL, or `opfs:name` for one that was saved. */
export type WeightSource = Blob | ArrayBuffer | Uint8Array | Response | URL | string;
