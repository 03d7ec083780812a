//! Results on their way home: a ring of staging buffers, one slot a run in flight.
//!
//! Knows bytes and output names; how they got into a slot is `run`'s affair.

use super::canary::{BYTES as TALLY, Tally, split, verify};
use super::device::in_words;
use super::faults::Fault;
use super::pace::{Pace, Stretch};
use super::{Device, lock};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::program::Program;
use crate::shape::Shape;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// Runs whose results can be under way at once.
pub const READBACK_RING: usize = 3;

/// An output's place among the packed outputs of its program.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub name: String,
    pub dtype: DType,
    pub shape: Shape,
    pub offset: u64,
    pub bytes: u64,
}

/// The outputs of a program side by side, and the bytes they take.
pub(super) fn pack(program: &Program) -> (Vec<Output>, u64) {
    let mut end = 0;
    let place = |io: &crate::program::Io| {
        let (bytes, offset) = (io.dtype.bytes(&io.shape), end);
        end += bytes.next_multiple_of(4);
        Output { name: io.name.clone(), dtype: io.dtype, shape: io.shape.clone(), offset, bytes }
    };
    (program.outputs.iter().map(place).collect(), end)
}

/// One `map_async`: what its callback says, and who waits for it.
#[derive(Default)]
pub(super) struct Mapping {
    state: Mutex<MappingState>,
}

#[derive(Default)]
struct MappingState {
    /// What the callback said, once it came.
    outcome: Option<Result<(), String>>,
    waiting: Option<Waker>,
}

impl Mapping {
    /// Asks for the first `bytes` of a buffer.
    pub fn start(device: &Device, buffer: &wgpu::Buffer, bytes: u64) -> Arc<Mapping> {
        let mapping = Arc::new(Mapping::default());
        if device.faults().due(Fault::Mapping) {
            lock(&mapping.state).outcome = Some(Err("injected by a test".into()));
            return mapping;
        }
        let told = Arc::clone(&mapping);
        buffer.map_async(wgpu::MapMode::Read, 0..bytes, move |outcome| {
            let mut state = lock(&told.state);
            state.outcome = Some(outcome.map_err(|error| error.to_string()));
            if let Some(waker) = state.waiting.take() {
                waker.wake();
            }
        });
        mapping
    }

    fn ready(&self) -> bool {
        lock(&self.state).outcome.is_some()
    }

    /// What the callback said. Mapping a buffer of ours fails on a lost device only.
    fn outcome(&self, device: &Device) -> Option<Result<()>> {
        let outcome = lock(&self.state).outcome.clone()?;
        Some(outcome.map_err(|message| device.give_up(unreturned(&message))))
    }

    /// Waits for the callback: natively by polling the device, in a browser by yielding to its event loop.
    pub async fn wait(&self, device: &Device, after: &wgpu::SubmissionIndex) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        device.wait_until(after, || self.ready())?;
        #[cfg(target_arch = "wasm32")]
        let _ = after;
        std::future::poll_fn(|context| {
            lock(&self.state).waiting = Some(context.waker().clone());
            self.outcome(device).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// That results did not come back.
fn unreturned(message: &str) -> String {
    in_words(format!("it did not return results: {message}"))
}

/// Reads the first bytes of a mapped buffer and unmaps it. Like mapping, that fails on a lost device only.
pub(super) fn take_mapped(device: &Device, buffer: &wgpu::Buffer, bytes: u64) -> Result<Vec<u8>> {
    let copy = buffer.get_mapped_range(0..bytes).map(|view| view.to_vec());
    unmap(device, buffer)?;
    copy.or_else(|error| {
        device.check()?;
        Err(device.give_up(unreturned(&error.to_string())))
    })
}

/// An error of it, which comes of a loss that a borrowed device has not told, is nothing that the app should hear of.
fn unmap(device: &Device, buffer: &wgpu::Buffer) -> Result<()> {
    device.caught("refused to return results", || buffer.unmap()).or_else(|error| {
        device.check()?;
        Err(device.give_up(error.to_string()))
    })
}

/// A run whose results are under way; shared by its slot and its ticket.
struct Flight {
    /// Age: the smaller, the older.
    serial: u64,
    buffer: wgpu::Buffer,
    bytes: u64,
    mapping: Arc<Mapping>,
    submission: wgpu::SubmissionIndex,
    /// What must stand at the beginning of the slot.
    tally: Tally,
    pace: Arc<Pace>,
    stretch: Option<Stretch>,
    /// Where each program's outputs begin in the slot, in the order of the programs' last turns.
    programs: Vec<(usize, u64)>,
    names: Arc<[Vec<Output>]>,
    /// The slot's bytes once they were copied to make room for a later run.
    kept: Mutex<Option<Result<Vec<u8>>>>,
    /// The slot may be used again.
    landed: AtomicBool,
    /// Nobody will ask.
    abandoned: AtomicBool,
}

impl Flight {
    fn land(&self, device: &Device) -> Result<Vec<u8>> {
        self.landed.store(true, Ordering::Release);
        let bytes = take_mapped(device, &self.buffer, self.bytes)?;
        verify(device, &self.tally, split(&bytes, TALLY)?.0)?;
        Ok(bytes)
    }
}

/// A claim to the results of one run; dropping it gives them up.
pub struct Ticket {
    flight: Arc<Flight>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.flight.abandoned.store(true, Ordering::Release);
    }
}

/// The slots of a session.
pub(super) struct Ring {
    buffers: Vec<wgpu::Buffer>,
    flights: Vec<Option<Arc<Flight>>>,
    names: Arc<[Vec<Output>]>,
    sizes: Vec<u64>,
    pace: Arc<Pace>,
    next: u64,
}

/// A slot that was claimed for a run.
pub(super) struct Slot {
    index: usize,
    pub buffer: wgpu::Buffer,
    /// Where each program's outputs go, in the order of the programs' last turns.
    pub programs: Vec<(usize, u64)>,
    bytes: u64,
}

impl Slot {
    pub fn base(&self, program: usize) -> u64 {
        self.programs.iter().find(|(index, _)| *index == program).map_or(0, |&(_, base)| base)
    }
}

impl Ring {
    /// The slots' buffers.
    pub fn buffers(&self) -> &[wgpu::Buffer] {
        &self.buffers
    }

    pub fn new(buffers: Vec<wgpu::Buffer>, programs: &[Program], pace: Arc<Pace>) -> Ring {
        let (names, sizes): (Vec<_>, Vec<_>) = programs.iter().map(pack).unzip();
        let flights = buffers.iter().map(|_| None).collect();
        Ring { buffers, flights, names: names.into(), sizes, pace, next: 0 }
    }

    /// A free slot; the oldest results are set aside if every slot is in flight.
    pub fn claim(&mut self, device: &Device, programs: &[usize]) -> Result<Slot> {
        let claimed = |index: &usize| match &self.flights[*index] {
            Some(flight) if flight.landed.load(Ordering::Acquire) => (0, 0),
            Some(flight) if flight.abandoned.load(Ordering::Acquire) => (1, flight.serial),
            Some(flight) => (2, flight.serial),
            None => (0, 0),
        };
        let index = (0..self.buffers.len()).min_by_key(claimed).unwrap_or(0);
        if let Some(flight) = self.flights[index].take().filter(|flight| !flight.landed.load(Ordering::Acquire)) {
            if flight.abandoned.load(Ordering::Acquire) {
                // wgpu keeps the end of this run for the time to map the buffer, whoever asks next: a mapping for a
                // later run would come too early.
                #[cfg(not(target_arch = "wasm32"))]
                if let Err(error) = device.wait_for(&flight.submission) {
                    self.flights[index] = Some(flight);
                    return Err(error);
                }
                unmap(device, &self.buffers[index])?;
            } else if let Err(error) = set_aside(device, &flight) {
                self.flights[index] = Some(flight);
                return Err(error);
            }
        }
        let mut placed: Vec<(usize, u64)> = Vec::with_capacity(programs.len());
        let mut bytes = TALLY;
        for &program in programs {
            let base = match placed.iter().position(|(index, _)| *index == program) {
                // Its turn now is its last.
                Some(earlier) => placed.remove(earlier).1,
                None => {
                    bytes += self.sizes[program];
                    bytes - self.sizes[program]
                }
            };
            placed.push((program, base));
        }
        Ok(Slot { index, buffer: self.buffers[index].clone(), programs: placed, bytes })
    }

    /// Whether no results are on their way.
    pub fn idle(&self) -> bool {
        self.flights.iter().flatten().all(|flight| flight.landed.load(Ordering::Acquire))
    }

    /// Asks for the slot's bytes after the submission that fills it.
    pub fn start(
        &mut self,
        device: &Device,
        slot: Slot,
        (submission, tally): (wgpu::SubmissionIndex, Tally),
        stretch: Option<Stretch>,
    ) -> Ticket {
        let flight = Arc::new(Flight {
            serial: self.next,
            mapping: Mapping::start(device, &slot.buffer, slot.bytes),
            buffer: slot.buffer,
            bytes: slot.bytes,
            submission,
            tally,
            pace: Arc::clone(&self.pace),
            stretch,
            programs: slot.programs,
            names: Arc::clone(&self.names),
            kept: Mutex::default(),
            landed: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        });
        self.next += 1;
        self.flights[slot.index] = Some(Arc::clone(&flight));
        Ticket { flight }
    }
}

/// Copies results that are still wanted out of their slot.
fn set_aside(device: &Device, flight: &Flight) -> Result<()> {
    #[cfg(not(target_arch = "wasm32"))]
    device.wait_until(&flight.submission, || flight.mapping.ready())?;
    match flight.mapping.outcome(device) {
        Some(outcome) => {
            *lock(&flight.kept) = Some(outcome.and_then(|()| flight.land(device)));
            flight.landed.store(true, Ordering::Release);
            Ok(())
        }
        None => Err(Error::feed(format!(
            "{READBACK_RING} runs are in flight; await `fetch_async` of the oldest before starting another"
        ))),
    }
}

/// Waits for a run's results.
pub(super) async fn fetch(device: Device, ticket: Ticket) -> Result<Results> {
    device.settle().await?;
    let flight = &ticket.flight;
    let kept = lock(&flight.kept).take();
    let bytes = match kept {
        Some(kept) => kept?,
        None => {
            let early = !flight.mapping.ready();
            flight.mapping.wait(&device, &flight.submission).await?;
            if early {
                flight.pace.saw(flight.serial, flight.stretch);
            }
            let set_aside_meanwhile = lock(&flight.kept).take();
            set_aside_meanwhile.unwrap_or_else(|| flight.land(&device))?
        }
    };
    device.settle().await?;
    Ok(Results { bytes, programs: flight.programs.clone(), names: Arc::clone(&flight.names) })
}

/// The outputs of one run.
pub struct Results {
    bytes: Vec<u8>,
    programs: Vec<(usize, u64)>,
    names: Arc<[Vec<Output>]>,
}

impl Results {
    /// The bytes of an output as they lie on the device (halves packed two to a word, booleans as words).
    /// Where several programs of the run have an output of this name, those of the one that ran last.
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        self.find(name).map(|(_, bytes)| bytes)
    }

    /// An f32 output.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>> {
        self.words(name, DType::F32, f32::from_bits)
    }

    /// An i32 output.
    pub fn i32(&self, name: &str) -> Result<Vec<i32>> {
        self.words(name, DType::I32, u32::cast_signed)
    }

    /// A u32 output.
    pub fn u32(&self, name: &str) -> Result<Vec<u32>> {
        self.words(name, DType::U32, |word| word)
    }

    /// All outputs, those of the programs that ran first first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let outputs = self.programs.iter().flat_map(|(program, _)| &self.names[*program]);
        outputs.map(|output| output.name.as_str())
    }

    /// The shape of an output.
    pub fn shape(&self, name: &str) -> Result<&Shape> {
        self.find(name).map(|(output, _)| &output.shape)
    }

    fn words<T>(&self, name: &str, dtype: DType, convert: impl Fn(u32) -> T) -> Result<Vec<T>> {
        let (output, bytes) = self.find(name)?;
        if output.dtype != dtype {
            return Err(Error::feed(format!("the output `{name}` is {}, it cannot be read as {dtype}", output.dtype)));
        }
        let (words, _) = bytes.as_chunks::<4>();
        Ok(words.iter().map(|&word| convert(u32::from_le_bytes(word))).collect())
    }

    fn find(&self, name: &str) -> Result<(&Output, &[u8])> {
        for &(program, base) in self.programs.iter().rev() {
            if let Some(output) = self.names[program].iter().find(|output| output.name == name) {
                let start = (base + output.offset) as usize;
                return Ok((output, &self.bytes[start..start + output.bytes as usize]));
            }
        }
        let known: Vec<&str> = self.names().collect();
        Err(Error::feed(format!("the run has no output `{name}`; it has: {}", known.join(", "))))
    }
}
