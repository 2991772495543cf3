//! Expressions, and the times that they mean.

use jiff::tz::TimeZoneDatabase;

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap()
}

fn ms(text: &str) -> u64 {
    text.parse::<Timestamp>().unwrap().as_millisecond().try_into().unwrap()
}

/// The first times after one, as UTC shows them.
fn times(expression: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
    let (cron, zone) = (Cron::parse(expression).unwrap(), zone(zone_name));
    let mut at = ms(after);
    let next = |_| {
        at = cron.after(&zone, at).unwrap();
        Timestamp::from_millisecond(at as i64).unwrap().to_string()
    };
    (0..count).map(next).collect()
}

#[test]
fn fields_are_lists_ranges_steps_and_names() {
    for (expression, after, expected) in [
        ("* * * * *", "2026-01-01T00:00:00Z", ["2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"]),
        ("* * * * *", "2026-01-01T00:00:59.999Z", ["2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"]),
        ("*/20 * * * *", "2026-01-01T00:05:00Z", ["2026-01-01T00:20:00Z", "2026-01-01T00:40:00Z"]),
        ("5-40/30 3 * * *", "2026-01-01T00:00:00Z", ["2026-01-01T03:05:00Z", "2026-01-01T03:35:00Z"]),
        ("0,30 9-17/8 * * *", "2026-01-01T09:30:00Z", ["2026-01-01T17:00:00Z", "2026-01-01T17:30:00Z"]),
        ("0 0 * Feb,DEC *", "2026-02-27T00:00:00Z", ["2026-02-28T00:00:00Z", "2026-12-01T00:00:00Z"]),
        ("0 0 * * mon-tue", "2026-01-01T00:00:00Z", ["2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z"]),
        ("0 0 * * 7", "2026-01-01T00:00:00Z", ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"]),
        ("0 0 * * 0", "2026-01-01T00:00:00Z", ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"]),
        ("0 0 * * 5-7", "2026-01-02T00:00:00Z", ["2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"]),
        ("\t0  12\t1 1 * ", "2026-01-01T12:00:00Z", ["2027-01-01T12:00:00Z", "2028-01-01T12:00:00Z"]),
    ] {
        assert_eq!(times(expression, "UTC", after, 2), expected, "{expression}");
    }
}

#[test]
fn a_day_of_month_or_a_day_of_week_is_enough_where_both_are_given() {
    let all = |expression| times(expression, "UTC", "2026-01-01T00:00:00Z", 4);
    // Mondays are the 5th, the 12th and the 19th.
    assert_eq!(
        all("0 0 13 * mon"),
        ["2026-01-05T00:00:00Z", "2026-01-12T00:00:00Z", "2026-01-13T00:00:00Z", "2026-01-19T00:00:00Z"]
    );
    // With `*` in front neither is given: both must hold.
    assert_eq!(
        all("0 0 */2 * mon"),
        ["2026-01-05T00:00:00Z", "2026-01-19T00:00:00Z", "2026-02-09T00:00:00Z", "2026-02-23T00:00:00Z"]
    );
    assert_eq!(
        all("0 0 13 * *"),
        ["2026-01-13T00:00:00Z", "2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z", "2026-04-13T00:00:00Z"]
    );
}

#[test]
fn months_end_where_they_do_and_a_29th_of_february_comes_in_leap_years() {
    assert_eq!(
        times("0 0 31 * *", "UTC", "2026-01-01T00:00:00Z", 4),
        ["2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z", "2026-07-31T00:00:00Z"]
    );
    assert_eq!(
        times("0 0 29 2 *", "UTC", "2095-01-01T00:00:00Z", 2),
        ["2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"],
        "2100 is no leap year"
    );
    assert_eq!(times("59 23 31 12 *", "UTC", "2026-12-31T23:58:00Z", 1), ["2026-12-31T23:59:00Z"]);
    let never = Cron::parse("0 0 30 2 *").unwrap();
    assert_eq!(never.after(&zone("UTC"), ms("2026-01-01T00:00:00Z")), None);
}

#[test]
fn a_wall_time_that_is_left_out_counts_as_the_first_instant_after_the_gap() {
    // In Berlin 02:00 to 03:00 is left out on March 29th: 03:00 is 01:00 UTC.
    let before = "2026-03-28T12:00:00Z";
    assert_eq!(
        times("30 2 * * *", "Europe/Berlin", before, 3),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"]
    );
    // Several that are left out are one, and so are they and one that is not.
    assert_eq!(
        times("*/20 1-3 29 3 *", "Europe/Berlin", before, 6),
        [
            "2026-03-29T00:00:00Z",
            "2026-03-29T00:20:00Z",
            "2026-03-29T00:40:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-29T01:20:00Z",
            "2026-03-29T01:40:00Z"
        ]
    );
    // Where midnight is left out, the day begins later: in Beirut 2026-03-29 at 01:00, which is 22:00 UTC.
    assert_eq!(
        times("0 0 * * *", "Asia/Beirut", "2026-03-28T12:00:00Z", 2),
        ["2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"]
    );
    // Samoa left out a whole day, 2011-12-30.
    assert_eq!(
        times("0 12 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00Z", 1),
        ["2011-12-30T10:00:00Z"],
        "when the 31st began"
    );
}

#[test]
fn a_wall_time_that_comes_twice_counts_once() {
    // In Berlin 02:00 to 03:00 comes twice on October 25th: at 00:00 UTC and at 01:00 UTC.
    assert_eq!(
        times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    // Of half an hour that comes twice, too: at Lord Howe, on April 5th, 01:30 to 02:00.
    assert_eq!(
        times("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2),
        ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"]
    );
}

#[test]
fn of_all_hours_one_that_comes_twice_is_two() {
    assert_eq!(
        times("30 * * * *", "Europe/Berlin", "2026-10-24T23:00:00Z", 4),
        ["2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]
    );
    let of_spring = times("30 * * * *", "Europe/Berlin", "2026-03-28T23:50:00Z", 2);
    assert_eq!(
        of_spring,
        ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"],
        "and one that is left out is none"
    );
}

#[test]
fn times_go_on_without_an_end_and_none_is_given_twice_whatever_the_clocks_do() {
    for name in
        ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "Africa/Casablanca"]
    {
        let zone = zone(name);
        for expression in ["*/7 * * * *", "15 0-3 * * *", "0 0 * * *", "* 2 * * sun"] {
            let cron = Cron::parse(expression).unwrap();
            let start = ms("2026-01-01T00:00:00Z");
            let mut at = start;
            for _ in 0..2_000 {
                let next = cron.after(&zone, at).unwrap();
                assert!(next > at, "{expression} in {name}");
                // From whatever time before it, it is the same.
                assert_eq!(cron.after(&zone, next - 1), Some(next), "{expression} in {name}");
                // And from any time up to the next one it is the last.
                assert_eq!(cron.before(&zone, next), Some(next), "{expression} in {name}");
                if at > start {
                    assert_eq!(cron.before(&zone, next - 1), Some(at), "{expression} in {name}");
                }
                at = next;
            }
        }
    }
}

#[test]
fn what_is_wrong_with_an_expression_is_named() {
    for (expression, named) in [
        ("", "there are 0"),
        ("* * * *", "there are 4"),
        ("0 * * * * *", "there are 6"),
        ("@daily", "five fields"),
        ("60 * * * *", "minute: \"60\" is not 0 to 59"),
        ("* 24 * * *", "hour: \"24\""),
        ("* * 0 * *", "day of month: \"0\" is not 1 to 31"),
        ("* * 32 * *", "day of month"),
        ("* * * 13 *", "month: \"13\" is not 1 to 12, or jan to dec"),
        ("* * * * 8", "day of week: \"8\" is not 0 to 7, or sun to sat"),
        ("* * * monday *", "month: \"monday\""),
        ("-1 * * * *", "minute: \"\""),
        ("+1 * * * *", "minute: \"+1\""),
        ("5-1 * * * *", "goes backwards"),
        ("*/0 * * * *", "\"0\" is no step"),
        ("*/+2 * * * *", "\"+2\" is no step"),
        ("1-5/ * * * *", "\"\" is no step"),
        ("5/10 * * * *", "a step is of a range"),
        ("1,,2 * * * *", "minute: \"\""),
        ("1-2-3 * * * *", "minute: \"2-3\""),
        ("L * * * *", "minute: \"L\""),
        ("٣ * * * *", "minute"),
        ("999 * * * *", "minute"),
    ] {
        let wrong = Cron::parse(expression).unwrap_err();
        assert!(wrong.contains(named), "{expression}: {wrong}");
    }
}
