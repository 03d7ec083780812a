//! Proof that work was done: the last command of every submission leaves a word that comes back with the results.
//!
//! Where a driver kills work, the host may see nothing of it: on Metal a command buffer that failed counts as complete, and
//! what is read is what lay there before. So each submission ends with the copy of a word that no other submission
//! has, into its place in a tally, and results come home with the tally. A queue works in order, and copies of results
//! wait for the kernels before them: a word that is there was written after all of that. It costs a copy of four bytes
//! a submission, and no kernel.
//!
//! Knows no programs. The last [`WORDS`] submissions are seen, whoever made them.

use super::{Device, lock};
use crate::error::{Error, Result};
use std::sync::Mutex;

/// Submissions that a tally tells of.
pub(super) const WORDS: usize = 64;
/// Bytes of a tally.
pub(super) const BYTES: u64 = WORDS as u64 * 4;
/// Bytes of the buffers of a canary.
pub(super) const OWN_BYTES: u64 = BYTES + 4;
/// Far from the small numbers that memory is full of.
const FIRST: u32 = 0x9E37_79B9;

/// The words that must come home.
pub(super) type Tally = [u32; WORDS];

/// The words of a session.
pub(super) struct Canary {
    /// The word of the submission that comes next, written by the host.
    word: wgpu::Buffer,
    tally: wgpu::Buffer,
    told: Mutex<Told>,
}

/// What the tally holds when all work so far is done.
struct Told {
    submissions: u32,
    tally: Tally,
}

impl Canary {
    /// Of a session; the buffers are `word` of 4 bytes and `tally` of [`BYTES`], both full of zeros.
    pub fn new(word: wgpu::Buffer, tally: wgpu::Buffer) -> Canary {
        Canary { word, tally, told: Mutex::new(Told { submissions: 0, tally: [0; WORDS] }) }
    }

    pub fn buffers(&self) -> [&wgpu::Buffer; 2] {
        [&self.word, &self.tally]
    }

    /// Ends this work with a word, and submits it. With a place in a buffer the tally goes there: what must come home is given.
    pub fn submit(
        &self,
        device: &Device,
        what: &'static str,
        mut encoder: wgpu::CommandEncoder,
        home: Option<(&wgpu::Buffer, u64)>,
    ) -> Result<(wgpu::SubmissionIndex, Tally)> {
        // Held until it is submitted: another thread may read state meanwhile, and there is one word.
        let mut told = lock(&self.told);
        let number = told.submissions;
        let (word, place) = (FIRST.wrapping_add(number) | 1 << 31, number as usize % WORDS);
        encoder.copy_buffer_to_buffer(&self.word, 0, &self.tally, place as u64 * 4, 4);
        if let Some((buffer, offset)) = home {
            encoder.copy_buffer_to_buffer(&self.tally, 0, buffer, offset, BYTES);
        }
        let commands = device.caught(what, || {
            device.wgpu_queue().write_buffer(&self.word, 0, &word.to_le_bytes());
            encoder.finish()
        })?;
        let submission = device.submit(what, Some(commands))?;
        told.submissions = number.wrapping_add(1);
        told.tally[place] = word;
        Ok((submission, told.tally))
    }
}

/// An error, and the end of the device, unless these bytes are the tally.
pub(super) fn verify(device: &Device, tally: &Tally, bytes: &[u8]) -> Result<()> {
    let (words, _) = bytes.as_chunks::<4>();
    if words.iter().map(|word| u32::from_le_bytes(*word)).eq(tally.iter().copied()) {
        return Ok(());
    }
    // A loss that nobody has heard of yet explains it.
    device.check()?;
    Err(device.give_up(
        "it dropped work without a word: a submission counts as complete, but its last command was not done. What was \
         computed since the last state on the host cannot be trusted"
            .into(),
    ))
}

/// The error of results that are too short to hold a tally.
pub(super) fn split(bytes: &[u8], at: u64) -> Result<(&[u8], &[u8])> {
    bytes.split_at_checked(at as usize).ok_or_else(|| Error::device_lost("it returned too little".into()))
}
