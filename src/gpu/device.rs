//! A device with what is known of its health: the first error it reported, and whether it is lost.
//!
//! Knows no programs. On a borrowed device it leaves the app's handlers alone and catches the errors of
//! its own calls in error scopes.

use super::adapters;
use super::faults::Faults;
use super::lock;
use super::pipelines::PipelineCache;
use crate::error::{Error, Result};
use crate::kernels::Choices;
use crate::kernels::{AdapterClass, Profile};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long to wait for a device without further word: even a software adapter is not that slow.
const TIMEOUT: Duration = Duration::from_secs(600);

/// A cheap handle to an open device; clones share it and its compiled kernels.
#[derive(Clone)]
pub struct Device {
    inner: Arc<Inner>,
    profile: Arc<Profile>,
}

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    name: String,
    /// Of a device of our own: to find its adapter again.
    adapter: Option<wgpu::AdapterInfo>,
    timeout: Mutex<Duration>,
    /// It was given up while it worked.
    #[cfg_attr(target_arch = "wasm32", expect(dead_code))]
    hung: AtomicBool,
    health: Arc<Health>,
    pipelines: PipelineCache,
    faults: Faults,
    /// Bytes uploaded since the last submission.
    uploaded: AtomicU64,
    /// Verdicts of error scopes, which a browser gives later.
    #[cfg(target_arch = "wasm32")]
    pending: Mutex<Vec<Verdict>>,
}

/// wgpu waits for a queue that is dropped, however long its work takes; a hung one is kept instead, and what it works on.
#[cfg(not(target_arch = "wasm32"))]
impl Drop for Inner {
    fn drop(&mut self) {
        let works = || !matches!(self.device.poll(wgpu::PollType::Poll), Ok(wgpu::PollStatus::QueueEmpty));
        // On a borrowed device it is the app that keeps the queue or lets go of it.
        let hung = self.adapter.is_some() && *self.hung.get_mut();
        if hung && std::panic::catch_unwind(std::panic::AssertUnwindSafe(works)).unwrap_or(true) {
            std::mem::forget(self.queue.clone());
        }
    }
}

/// What an error scope will have caught.
#[cfg(target_arch = "wasm32")]
type Verdict = std::pin::Pin<Box<dyn Future<Output = Option<Error>>>>;

/// What the device's callbacks told.
#[derive(Default)]
struct Health {
    error: Mutex<Option<String>>,
    lost: Mutex<Option<String>>,
}

/// Why a device is lost, as people are told. In a page that is what it means there: a browser's words are about its own inside.
pub(super) fn in_words(words: String) -> String {
    if cfg!(target_arch = "wasm32") {
        return "the browser took it away, as it does when its GPU process ends, the driver is reset, or memory runs short".into();
    }
    words
}

impl Device {
    /// Opens a device: on the adapter with this index or with this text in its name (case aside), or on the fastest.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(choice: Option<&str>) -> Result<Device> {
        pollster::block_on(Device::open_async(choice))
    }

    /// Like `open`, on every target.
    pub async fn open_async(choice: Option<&str>) -> Result<Device> {
        adapters::open(adapters::choose(choice).await?).await
    }

    /// A device that checks programs against exactly these limits as wgpu does, and executes no kernel.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn fake(profile: &Profile) -> Result<Device> {
        let mut device = pollster::block_on(async { adapters::open(adapters::fake(profile).await?).await })?;
        device.profile = Arc::new(profile.clone());
        Ok(device)
    }

    /// Works on an app's own device, whose error handler and device-lost callback stay as they are.
    /// What kernels may use is taken from the features and limits that the app asked for.
    pub fn borrow(device: wgpu::Device, queue: wgpu::Queue, info: &wgpu::AdapterInfo) -> Device {
        let profile = adapters::profile_of(info, device.features(), &device.limits());
        Device::build(device, queue, info.name.clone(), profile, None)
    }

    pub(super) fn own(device: wgpu::Device, queue: wgpu::Queue, info: wgpu::AdapterInfo, profile: Profile) -> Device {
        let device = Device::build(device, queue, info.name.clone(), profile, Some(info));
        let health = Arc::clone(&device.inner.health);
        // The first error is the cause, later ones are its consequences.
        let record = move |error: wgpu::Error| {
            lock(&health.error).get_or_insert_with(|| error.to_string());
        };
        device.inner.device.on_uncaptured_error(Arc::new(record));
        let health = Arc::clone(&device.inner.health);
        device.inner.device.set_device_lost_callback(move |reason, message| {
            lock(&health.lost).get_or_insert_with(|| in_words(format!("{reason:?}: {message}")));
        });
        device
    }

    fn build(
        device: wgpu::Device,
        queue: wgpu::Queue,
        name: String,
        profile: Profile,
        adapter: Option<wgpu::AdapterInfo>,
    ) -> Device {
        let inner = Inner {
            device,
            queue,
            name,
            adapter,
            timeout: Mutex::new(TIMEOUT),
            hung: AtomicBool::new(false),
            health: Arc::default(),
            pipelines: PipelineCache::default(),
            faults: Faults::default(),
            uploaded: AtomicU64::new(0),
            #[cfg(target_arch = "wasm32")]
            pending: Mutex::default(),
        };
        Device { inner: Arc::new(inner), profile: Arc::new(profile) }
    }

    /// What kernels may assume about this device.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The same device, on which programs are compiled with these measured choices of kernels.
    pub fn with_choices(&self, choices: Choices) -> Device {
        let profile = Profile { choices, ..Profile::clone(&self.profile) };
        Device { inner: Arc::clone(&self.inner), profile: Arc::new(profile) }
    }

    /// The same device with subgroups of so many lanes, every one: for a page that asked the browser for them itself, since wgpu
    /// does not. Only where programs take time to run on a processor; on GPUs kernels without them are as fast.
    pub fn with_subgroups(&self, lanes: u32) -> Device {
        let subgroup = match self.profile.class {
            AdapterClass::Cpu => Some(lanes).filter(|lanes| adapters::SUBGROUPS.contains(lanes)),
            AdapterClass::Discrete | AdapterClass::Integrated | AdapterClass::Apple => self.profile.subgroup,
        };
        let profile = Profile { subgroup, ..Profile::clone(&self.profile) };
        Device { inner: Arc::clone(&self.inner), profile: Arc::new(profile) }
    }

    /// The same device, whose kernels bind at most so many bytes at once: programs are compiled as for a device that grants no
    /// more, larger tensors in parts.
    pub fn with_binding_limit(&self, bytes: u64) -> Device {
        let max_binding_bytes = bytes.min(self.profile.max_binding_bytes);
        let profile = Profile { max_binding_bytes, ..Profile::clone(&self.profile) };
        Device { inner: Arc::clone(&self.inner), profile: Arc::new(profile) }
    }

    /// The adapter's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The adapter's name with its driver: what measured choices of kernels belong to. Of a borrowed device only the name is
    /// known.
    pub fn identity(&self) -> String {
        match &self.inner.adapter {
            None => self.inner.name.clone(),
            Some(info) => {
                let backend = format!("{:?}", info.backend);
                format!("{} | {backend} | {} {}", info.name, info.driver, info.driver_info)
            }
        }
    }

    /// Live allocations of device memory and their bytes, as wgpu's allocator counts them, whoever made them; `None` where a
    /// driver keeps that to itself (Metal, browsers).
    pub fn allocated(&self) -> Option<(usize, u64)> {
        let report = self.inner.device.generate_allocator_report()?;
        Some((report.allocations.len(), report.total_allocated_bytes))
    }

    /// Why the device is lost, if it is. Always `None` on a borrowed device until a run meets the loss.
    pub fn lost(&self) -> Option<String> {
        lock(&self.inner.health.lost).clone()
    }

    /// Opens another device on the same adapter, however often it is called: for when this one is lost. On a
    /// borrowed device only its app can do that.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn reopener(&self) -> impl Fn() -> Result<Device> + Send + 'static {
        let (adapter, profile) = (self.inner.adapter.clone(), Profile::clone(&self.profile));
        let open = move || match &adapter {
            None => Err(Error::config("the device belongs to the app, which alone can open another".into())),
            Some(info) if info.backend == wgpu::Backend::Noop => Device::fake(&profile),
            Some(info) => pollster::block_on(async { adapters::open(adapters::the_same(info).await?).await }),
        };
        let choices = self.profile.choices.clone();
        move || Ok(open()?.with_choices(choices.clone()))
    }

    /// How long to wait for work before it is [`ErrorKind::DeviceHung`]; ten minutes without further word. Up to three
    /// steps may be under way at once.
    pub fn set_timeout(&self, timeout: Duration) {
        *lock(&self.inner.timeout) = timeout;
    }

    pub fn wgpu_device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    pub fn wgpu_queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// Notes a loss that was met in other ways than by the callback.
    pub(super) fn met_loss(&self, message: String) {
        lock(&self.inner.health.lost).get_or_insert(message);
    }

    /// Gives the device up although it answers: what it did cannot be trusted.
    pub(super) fn give_up(&self, message: String) -> Error {
        self.met_loss(message.clone());
        if self.inner.adapter.is_some() {
            // So that another one has its memory.
            self.inner.device.destroy();
        }
        Error::device_lost(self.lost().unwrap_or(message))
    }

    pub(super) fn cache(&self) -> &PipelineCache {
        &self.inner.pipelines
    }

    pub(super) fn uploaded(&self) -> &AtomicU64 {
        &self.inner.uploaded
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// An error if the device is lost or has reported one.
    pub(super) fn healthy(&self) -> Result<()> {
        let error = lock(&self.inner.health.error).clone();
        // An error may be the first sign of a loss, whose callback is still waiting.
        #[cfg(not(target_arch = "wasm32"))]
        if error.is_some() && self.lost().is_none() {
            self.deliver();
        }
        match (self.lost(), error) {
            (Some(message), _) => Err(Error::device_lost(message)),
            (None, Some(message)) => Err(Error::device("reported an error".into(), message)),
            (None, None) => Ok(()),
        }
    }

    /// Like `healthy`, after letting natively waiting callbacks run.
    pub(super) fn check(&self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        self.poll(wgpu::PollType::Poll)?;
        self.healthy()
    }

    /// Does work whose errors are ours to explain: they reach neither the app's handler nor the device's
    /// health. In a browser the verdict comes later, from `settle`.
    pub(super) fn guarded<T>(
        &self,
        explain: impl FnOnce(wgpu::Error) -> Error + 'static,
        work: impl FnOnce() -> T,
    ) -> Result<T> {
        self.judged(None, explain, work)
    }

    /// `guarded`, where the error may be one that a test injects.
    pub(super) fn judged<T>(
        &self,
        injected: Option<wgpu::Error>,
        explain: impl FnOnce(wgpu::Error) -> Error + 'static,
        work: impl FnOnce() -> T,
    ) -> Result<T> {
        let filters = [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation];
        let scopes = filters.map(|filter| self.inner.device.push_error_scope(filter));
        let value = work();
        let reports: Vec<_> = scopes.into_iter().rev().map(wgpu::ErrorScopeGuard::pop).collect();
        let verdict = async move {
            let mut first = injected;
            for report in reports {
                first = first.or(report.await);
            }
            first.map(explain)
        };
        #[cfg(not(target_arch = "wasm32"))]
        return match pollster::block_on(verdict) {
            None => Ok(value),
            // A lost device refuses everything, often as if memory were short.
            Some(error) => self.check().and(Err(error)),
        };
        #[cfg(target_arch = "wasm32")]
        {
            lock(&self.inner.pending).push(Box::pin(verdict));
            Ok(value)
        }
    }

    /// `guarded` for work that is not expected to fail. In a browser, where each scope is a promise, on a borrowed device
    /// only: on one of our own the handler records errors at no cost.
    pub(super) fn caught<T>(&self, what: &'static str, work: impl FnOnce() -> T) -> Result<T> {
        if cfg!(not(target_arch = "wasm32")) || self.inner.adapter.is_none() {
            self.guarded(move |error| device_error(what, &error), work)
        } else {
            Ok(work())
        }
    }

    /// Waits for the verdicts on earlier guarded work, and gives the first error.
    #[cfg_attr(not(target_arch = "wasm32"), allow(clippy::unused_async))]
    pub(super) async fn settle(&self) -> Result<()> {
        #[cfg(target_arch = "wasm32")]
        {
            let pending = std::mem::take(&mut *lock(&self.inner.pending));
            let mut first = None;
            for verdict in pending {
                first = first.or(verdict.await);
            }
            if let Some(error) = first {
                return Err(error);
            }
        }
        self.healthy()
    }
}

/// An error of work that was not expected to fail.
pub(super) fn device_error(what: &str, error: &wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => Error::memory(format!("the GPU device {what}: {error}")),
        wgpu::Error::Validation { .. } | wgpu::Error::Internal { .. } => Error::device(what.into(), error.to_string()),
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod waiting {
    use super::{Device, Error, Result};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;
    use web_time::Instant;

    /// Waits are cut into pieces: a driver can miss a wake-up, and a lost device never answers.
    const PATIENCE: Duration = Duration::from_millis(100);

    impl Device {
        /// Lets callbacks run that wait natively.
        pub(in crate::gpu) fn deliver(&self) {
            // What it says of the device, the callbacks said too.
            let _ = catch_unwind(AssertUnwindSafe(|| self.wgpu_device().poll(wgpu::PollType::Poll)));
        }

        /// Lets callbacks run; false if a wait timed out.
        pub(in crate::gpu) fn poll(&self, poll: wgpu::PollType) -> Result<bool> {
            // wgpu panics where a wait finds the device lost.
            match catch_unwind(AssertUnwindSafe(|| self.wgpu_device().poll(poll))) {
                Ok(Ok(_)) => Ok(true),
                Ok(Err(wgpu::PollError::Timeout)) => Ok(false),
                Ok(Err(error)) => Err(Error::device("refused to be waited for".into(), error.to_string())),
                Err(panic) => {
                    let message = panic.downcast_ref::<String>().cloned();
                    self.met_loss(message.unwrap_or_else(|| "unknown reason".into()));
                    self.healthy().map(|()| false)
                }
            }
        }

        /// Blocks until `done`, which follows the completion of this submission.
        pub(in crate::gpu) fn wait_until(&self, after: &wgpu::SubmissionIndex, done: impl Fn() -> bool) -> Result<()> {
            self.wait_loop(after, |_| done())
        }

        /// Blocks until this submission is complete.
        pub(in crate::gpu) fn wait_for(&self, submission: &wgpu::SubmissionIndex) -> Result<()> {
            self.wait_loop(submission, |finished| finished)
        }

        fn wait_loop(&self, submission: &wgpu::SubmissionIndex, done: impl Fn(bool) -> bool) -> Result<()> {
            let (start, timeout) = (Instant::now(), *super::lock(&self.inner.timeout));
            let mut finished = false;
            while !done(finished) {
                self.healthy()?;
                if start.elapsed() > timeout {
                    self.inner.hung.store(true, std::sync::atomic::Ordering::Relaxed);
                    let message = "it hangs, or its work takes longer than the time-out (device.timeout)".into();
                    return Err(Error::device_hung(timeout.as_secs(), message));
                }
                if finished {
                    // Complete, yet its callback has not come: another thread is about to deliver it.
                    std::thread::sleep(Duration::from_micros(50));
                }
                let submission_index = Some(submission.clone());
                let patience = PATIENCE.min(timeout);
                finished = self.poll(wgpu::PollType::Wait { submission_index, timeout: Some(patience) })?;
            }
            Ok(())
        }
    }
}
