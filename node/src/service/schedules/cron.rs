//! Expressions of five fields, as Vixie cron has them: minute, hour, day of month, month, day of week.
//!
//! A field is `*`, or numbers, ranges and steps of them, with commas between: `*/5`, `1-5`, `0-30/10`, `mon,fri`. Months
//! and days of the week may be named by three letters; 0 and 7 are Sunday. Where both the day of month and the day of
//! week are given (neither begins with `*`), either is enough.
//!
//! A wall time that the zone's clocks leave out counts as the first instant after the gap, and one that they show twice
//! counts the first time. But where all hours are meant, an hour that comes twice is two hours, and one that is left
//! out is none.
//!
//! No clock here: each answer follows from the expression, the zone and a time.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// How far ahead a time is looked for: a 29th of February that is some day of the week comes within 40 years.
const YEARS_MAX: i16 = 50;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// An expression that was read: a bit for each number that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// A day of month or a day of week is enough.
    is_either: bool,
}

/// What a field may have in it.
struct Field {
    name: &'static str,
    min: u8,
    max: u8,
    /// What its numbers are called, from the least on.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, names: &[] },
    Field { name: "hour", min: 0, max: 23, names: &[] },
    Field { name: "day of month", min: 1, max: 31, names: &[] },
    Field { name: "month", min: 1, max: 12, names: &MONTHS },
    Field { name: "day of week", min: 0, max: 7, names: &WEEKDAYS },
];

impl Cron {
    /// The expression of a text, or what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Cron, String> {
        let texts: Vec<&str> = text.split_ascii_whitespace().collect();
        let Ok(texts) = <[&str; 5]>::try_from(texts.as_slice()) else {
            return Err(format!(
                "expected five fields (minute, hour, day of month, month, day of week), and there are {}",
                texts.len()
            ));
        };
        let mut bits = [0; 5];
        for ((field, text), bits) in FIELDS.iter().zip(texts).zip(&mut bits) {
            *bits = field.parse(text)?;
        }
        let [minutes, hours, days, months, weekdays] = bits;
        let is_either = !texts[2].starts_with('*') && !texts[4].starts_with('*');
        // 7 is Sunday as well.
        let weekdays = (weekdays | weekdays >> 7) & 0x7f;
        Ok(Cron { minutes, hours, days, months, weekdays, is_either })
    }

    /// The first time after this one, in milliseconds since the Unix epoch; none where there is none for long.
    pub(crate) fn after(&self, zone: &TimeZone, after_ms: u64) -> Option<u64> {
        let after_ms = i64::try_from(after_ms).ok()?;
        let today = zone.to_datetime(Timestamp::from_millisecond(after_ms).ok()?).date();
        // Clocks may have gone back over midnight.
        let mut date = today.yesterday().ok()?;
        let last = today.year().saturating_add(YEARS_MAX);
        while date.year() <= last {
            if self.months & 1 << date.month() == 0 {
                date = date.last_of_month().tomorrow().ok()?;
                continue;
            }
            let tomorrow = date.tomorrow().ok()?;
            if let Some(found) = self.first_on(date, zone, after_ms) {
                // Of the day after as well, where clocks go back over midnight.
                let found = self.first_on(tomorrow, zone, after_ms).map_or(found, |other| found.min(other));
                return u64::try_from(found).ok();
            }
            date = tomorrow;
        }
        None
    }

    /// The last time up to this one.
    pub(crate) fn before(&self, zone: &TimeZone, upto_ms: u64) -> Option<u64> {
        let upto_ms = i64::try_from(upto_ms).ok()?;
        let today = zone.to_datetime(Timestamp::from_millisecond(upto_ms).ok()?).date();
        // Clocks may have gone back over midnight.
        let mut date = today.tomorrow().ok()?;
        let first = today.year().saturating_sub(YEARS_MAX);
        while date.year() >= first {
            if self.months & 1 << date.month() == 0 {
                date = date.first_of_month().yesterday().ok()?;
                continue;
            }
            let yesterday = date.yesterday().ok()?;
            if let Some(found) = self.last_on(date, zone, upto_ms) {
                // Of the day before as well, likewise.
                let found = self.last_on(yesterday, zone, upto_ms).map_or(found, |other| found.max(other));
                return u64::try_from(found).ok();
            }
            date = yesterday;
        }
        None
    }

    fn is_day(&self, date: Date) -> bool {
        let has = |bits: u64, number: i8| bits & 1 << number != 0;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month()) && if self.is_either { day || weekday } else { day && weekday }
    }

    /// The first time of a day that is after this one.
    fn first_on(&self, date: Date, zone: &TimeZone, after_ms: i64) -> Option<i64> {
        // No minute of a day is later than its last.
        let ends = self.times(date.at(23, 59, 0, 0), zone).into_iter().flatten().max();
        if !self.is_day(date) || ends.is_some_and(|ends| ends <= after_ms) {
            return None;
        }
        let mut first = None::<i64>;
        for hour in numbers(self.hours) {
            let hour = Hour::of(self, date, hour, zone);
            if first.is_some_and(|first| hour.begins.is_some_and(|begins| begins > first)) {
                break;
            }
            if hour.ends.is_some_and(|ends| ends <= after_ms) {
                continue;
            }
            let found = match hour.is_plain() {
                Some(begins) => self.minutes_of(begins).find(|time| *time > after_ms),
                None => self.all_of(&hour, zone).filter(|time| *time > after_ms).min(),
            };
            first = found.into_iter().chain(first).min();
        }
        first
    }

    /// The last time of a day that is no later than this one.
    fn last_on(&self, date: Date, zone: &TimeZone, upto_ms: i64) -> Option<i64> {
        // No minute of a day comes for the first time before its first.
        let begins = self.times(date.at(0, 0, 0, 0), zone)[0];
        if !self.is_day(date) || begins.is_some_and(|begins| begins > upto_ms) {
            return None;
        }
        let mut last = None::<i64>;
        for hour in numbers(self.hours).rev() {
            let hour = Hour::of(self, date, hour, zone);
            if last.is_some_and(|last| hour.ends.is_some_and(|ends| ends < last)) {
                break;
            }
            if hour.begins.is_some_and(|begins| begins > upto_ms) {
                continue;
            }
            let found = match hour.is_plain() {
                Some(begins) => self.minutes_of(begins).rev().find(|time| *time <= upto_ms),
                None => self.all_of(&hour, zone).filter(|time| *time <= upto_ms).max(),
            };
            last = found.into_iter().chain(last).max();
        }
        last
    }

    /// The times of an hour in which no clock changes.
    fn minutes_of(&self, begins_ms: i64) -> impl DoubleEndedIterator<Item = i64> {
        numbers(self.minutes).map(move |minute| begins_ms + i64::from(minute) * MINUTE_MS)
    }

    fn all_of(&self, hour: &Hour, zone: &TimeZone) -> impl Iterator<Item = i64> {
        numbers(self.minutes).flat_map(move |minute| {
            self.times(hour.date.at(hour.hour, minute, 0, 0), zone).into_iter().flatten()
        })
    }

    /// When the zone's clocks show this, as far as it counts: the first time, and the second.
    fn times(&self, wall: DateTime, zone: &TimeZone) -> [Option<i64>; 2] {
        let at = |offset: Offset| offset.to_timestamp(wall).ok();
        let [first, second] = match zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => [at(offset), None],
            AmbiguousOffset::Gap { .. } if self.hours == ALL_HOURS => [None, None],
            // By the clocks of after the gap, the time that is left out is before it.
            AmbiguousOffset::Gap { after, .. } => {
                let end = at(after).and_then(|before| zone.following(before).next());
                [end.map(|end| end.timestamp()), None]
            }
            AmbiguousOffset::Fold { before, after } => {
                [at(before), at(after).filter(|_| self.hours == ALL_HOURS)]
            }
        };
        [first, second].map(|time| time.map(Timestamp::as_millisecond))
    }
}

const ALL_HOURS: u64 = (1 << 24) - 1;
const MINUTE_MS: i64 = 60_000;

/// An hour of a day: no minute of it comes for the first time before it begins, nor any after it ends.
struct Hour {
    date: Date,
    hour: i8,
    begins: Option<i64>,
    ends: Option<i64>,
}

impl Hour {
    fn of(cron: &Cron, date: Date, hour: i8, zone: &TimeZone) -> Self {
        let times = |minute| cron.times(date.at(hour, minute, 0, 0), zone);
        Hour { date, hour, begins: times(0)[0], ends: times(59).into_iter().flatten().max() }
    }

    /// When it begins, where no clock changes in it.
    fn is_plain(&self) -> Option<i64> {
        self.begins.filter(|begins| self.ends == Some(begins + 59 * MINUTE_MS))
    }
}

/// The numbers of bits that are set.
fn numbers(bits: u64) -> impl DoubleEndedIterator<Item = i8> {
    (0..60).filter(move |number| bits & 1 << number != 0)
}

impl Field {
    fn parse(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |bits, item| Ok(bits | self.item(item)?))
    }

    fn item(&self, item: &str) -> Result<u64, String> {
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => (range, Some(step)),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.min, self.max),
            None if step.is_some() => {
                return Err(self.wrong(format!("a step is of a range or of *, and {item:?} has neither")));
            }
            None => {
                let number = self.number(range)?;
                (number, number)
            }
            Some((first, last)) => (self.number(first)?, self.number(last)?),
        };
        if first > last {
            return Err(self.wrong(format!("the range {range:?} goes backwards")));
        }
        let step = match step {
            None => 1,
            Some(text) => match text.parse::<u8>() {
                Ok(step @ 1..) if text.bytes().all(|byte| byte.is_ascii_digit()) => step,
                _ => return Err(self.wrong(format!("{text:?} is no step: expected a number from 1 on"))),
            },
        };
        Ok((first..=last).step_by(step.into()).fold(0, |bits, number| bits | 1 << number))
    }

    fn number(&self, text: &str) -> Result<u8, String> {
        let Field { min, max, names, .. } = self;
        if let Some(place) = names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(min + place as u8);
        }
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let or_names = match names {
            [first, .., last] => format!(", or {first} to {last}"),
            _ => String::new(),
        };
        match text.parse::<u8>().ok().filter(|number| is_number && (min..=max).contains(&number)) {
            Some(number) => Ok(number),
            None => Err(self.wrong(format!("{text:?} is not {min} to {max}{or_names}"))),
        }
    }

    fn wrong(&self, what: String) -> String {
        format!("{}: {what}", self.name)
    }
}

#[cfg(test)]
mod tests;
