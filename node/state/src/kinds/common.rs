//! What belongs to no kind, as a checkpoint and a snapshot carry it.

use serde::{Deserialize, Serialize};
use skep_base::codec::{self, CodecError};

use crate::clock::Clock;
use crate::clock::mends::Mends;
use crate::kind::{Invalid, KindId, Record};
use crate::level::Level;
use crate::rolling::StateHash;

/// The level, the clock, the rolling hash, and where the clock was set back.
///
/// ```text
/// format 1   level clock, in the codec's encoding; there is no hash yet
/// format 2   level clock hash, in the codec's encoding
/// format 3   level clock hash mends, in the codec's encoding; where the clock was set back
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommonRecord {
    pub level: Level,
    pub clock: Clock,
    /// From [`Level::ROLLING_HASH`] on.
    pub hash: Option<StateHash>,
    /// Where the clock was set back; from [`Level::TIME_MENDS`] on.
    pub mends: Mends,
}

impl Record for CommonRecord {
    const ID: KindId = KindId(0);
    const NAME: &'static str = "common";
    const FORMATS: (u16, u16) = (1, 3);

    fn check(&self) -> Result<(), Invalid> {
        let Level(level) = self.level;
        if !(Level::FIRST..=Level::NEWEST).contains(&self.level) {
            let (oldest, newest) = (Level::FIRST.0, Level::NEWEST.0);
            return Err(Invalid(format!("level {level}; this program knows {oldest} to {newest}")));
        }
        match (self.level >= Level::ROLLING_HASH, self.hash.is_some()) {
            (true, false) => return Err(Invalid(format!("level {level} without a hash of the state"))),
            (false, true) => return Err(Invalid(format!("a hash of the state at level {level}"))),
            _ => {}
        }
        if !self.mends.is_sound() {
            let times = self.mends.len();
            return Err(Invalid(format!("a clock that was set back {times} times, in no order")));
        }
        if self.level < Level::TIME_MENDS && !self.mends.is_empty() {
            return Err(Invalid(format!("level {level}, but a clock that was set back")));
        }
        Ok(())
    }

    fn format(&self) -> u16 {
        match self.hash {
            None => 1,
            Some(_) if self.mends.is_empty() => 2,
            Some(_) => 3,
        }
    }

    fn encode_piece(&self, _format: u16, number: usize, bytes: &mut Vec<u8>) -> Result<bool, CodecError> {
        let CommonRecord { level, clock, hash, mends } = self;
        match hash {
            _ if number > 0 => return Ok(false),
            None => codec::encode_into(&(level, clock), bytes)?,
            Some(hash) if mends.is_empty() => codec::encode_into(&(level, clock, hash), bytes)?,
            Some(hash) => codec::encode_into(&(level, clock, hash, mends), bytes)?,
        }
        Ok(true)
    }

    fn decode(format: u16, bytes: &[u8]) -> Result<Self, Invalid> {
        if format == 1 {
            let (level, clock) = codec::decode(bytes)?;
            return Ok(Self { level, clock, ..Self::default() });
        }
        if format == 2 {
            let (level, clock, hash) = codec::decode(bytes)?;
            return Ok(Self { level, clock, hash: Some(hash), mends: Mends::default() });
        }
        let (level, clock, hash, mends) = codec::decode(bytes)?;
        Ok(Self { level, clock, hash: Some(hash), mends })
    }
}
