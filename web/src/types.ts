// What the package's functions take and give.

/** A layer, as the functions of `layers.ts` make it. */
export type Layer = string | { readonly [name: string]: unknown };

/** A model, as {@link sequential}, {@link gpt} and {@link digitsNet} make it. */
export interface Definition {
    readonly task?: "text" | "digits";
    readonly model?: { readonly [key: string]: unknown };
    readonly config: { readonly [key: string]: unknown };
}

/** Update rules with their options, as PyTorch names them; what is not given is as there. */
export type Optimizer =
    | { name: "adamw" | "adam"; beta1?: number; beta2?: number; eps?: number; amsgrad?: boolean }
    /** Moments of eight bits: a quarter of the memory. */
    | { name: "adamw8bit"; beta1?: number; beta2?: number; eps?: number }
    | { name: "sgd"; momentum?: number; dampening?: number; nesterov?: boolean }
    | { name: "rmsprop"; alpha?: number; eps?: number; momentum?: number; centered?: boolean }
    | { name: "adagrad"; lrDecay?: number; initialAccumulatorValue?: number; eps?: number }
    | { name: "adadelta"; rho?: number; eps?: number }
    /** `eps1` and `eps2` are the two of PyTorch's `eps`. */
    | { name: "adafactor"; beta2Decay?: number; d?: number; eps1?: number; eps2?: number }
    | { name: "lion"; beta1?: number; beta2?: number }
    /** For the matrices of a text model's blocks; AdamW updates the rest. */
    | { name: "muon"; momentum?: number; nesterov?: boolean; nsSteps?: number; eps?: number; adjustLrFn?: "original" | "match_rms_adamw" | "spectral_unclamped" };

/** How the learning rate changes over the steps, after a linear rise over `warmup`. */
export type Schedule =
    | { name: "constant" | "onecycle" }
    /** Along half a cosine, or straight, down to `minLr`: a tenth if not given. */
    | { name: "cosine" | "linear"; minLr?: number }
    | { name: "polynomial"; power?: number }
    /** Cosines one after the other, each `periodGrowth` times as long as the one before. */
    | { name: "restarts"; minLr?: number; period?: number; periodGrowth?: number }
    /** Unchanged, then straight down in the last `decay` steps. */
    | { name: "stable"; minLr?: number; decay?: number }
    /** Lower each time that what `Model.observe` is told was no better `patience` times. */
    | { name: "plateau"; minLr?: number; factor?: number; patience?: number; threshold?: number; cooldown?: number };

/** How a model is trained: the keys of the command line tool's configuration, with its defaults. */
export interface TrainOptions {
    /** Samples of a step. */
    batch?: number;
    /** Micro-batches that a step is split into, for less memory. */
    accumulate?: number;
    /** Steps over which the schedule runs. */
    steps?: number;
    /** AdamW if not given. */
    optimizer?: Optimizer | Optimizer["name"];
    /** Cosine if not given. */
    schedule?: Schedule | Schedule["name"];
    /** Largest learning rate; each rule has one of its own if it is not given. */
    lr?: number;
    weightDecay?: number;
    /** Steps over which the rate rises. */
    warmup?: number;
    /** Largest norm of the gradients; 0 does not clip. */
    clip?: number;
    /** What is kept in a step of the running mean of the weights, with which tests and predictions are made; 0: there is none. */
    ema?: number;
    /** Keep less of it in the first steps. */
    emaWarmup?: boolean;
    /** What products read their operands in; f32 if not given. Weights are f32 in any case. */
    precision?: "f32" | "f16" | "bf16";
    /** Compute activations twice where that halves their memory. */
    recompute?: boolean;
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
    /** Lanes of every subgroup, where kernels make use of them. */
    subgroup?: number;
    maxStorageBuffers: number;
    maxInvocations: number;
    maxWorkgroupBytes: number;
    maxBindingBytes: number;
    maxBufferBytes: number;
}

/** A kernel for products of matrices: how many of the results each invocation computes, and through which memory. */
export type Kernel =
    | "Direct"
    | { Register: { rows: number; quads: number } }
    | { Subgroup: { lanes: number; rows: number; quads: number } }
    | { Tiled: { tile_m: number; tile_n: number; tile_k: number; rows: number; quads: number } };

/** Which kernel is fastest for which product, as measured: by adapter (`Device.adapter`), then by product. The form of the file that
 *  `wgrad tune --export` writes. */
export interface Choices {
    format: 1;
    adapters: Record<string, Record<string, Kernel>>;
}

/** What was measured of a product. */
export interface Tuned {
    product: string;
    /** The fastest kernel; that of the rules if it is about as fast. */
    kernel: Kernel;
    /** Least milliseconds of a step with it, and with the kernel that the rules choose. */
    ms: number;
    ruleMs: number;
    /** Counted from 1, and how many there are. */
    index: number;
    count: number;
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

/** How far something is that takes a while; of `compile`, the fraction of the kernels that the browser is through with. */
export type Progress = (stage: "download" | "plan" | "compile" | "ready", message: string, part?: number) => void;

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

/** A file, or where one is: a Blob, its bytes, or a URL. */
export type Source = Blob | ArrayBuffer | Uint8Array | Response | URL | string;

/** A safetensors file, or where one is, or `opfs:name` for one that was saved. */
export type WeightSource = Source;
