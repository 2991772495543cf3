//! A certificate's validity: as much of X.509 (RFC 5280, section 4.1) as leads there.

use yasna::{ASN1Error, ASN1ErrorKind, ASN1Result, BERReader, BERReaderSeq, Tag};

/// The tags of both forms (X.680, section 8).
const UTC_TIME: u8 = 23;
const GENERALIZED_TIME: u8 = 24;

/// `notBefore` and `notAfter` of a certificate in DER, in Unix time; none where they cannot be read.
pub fn validity_s(der: &[u8]) -> Option<(i64, i64)> {
    yasna::parse_der(der, |certificate| {
        certificate.read_sequence(|certificate| {
            let validity = certificate.next().read_sequence(to_be_signed)?;
            skip_rest(certificate)?;
            Ok(validity)
        })
    })
    .ok()
}

fn to_be_signed(fields: &mut BERReaderSeq<'_, '_>) -> ASN1Result<(i64, i64)> {
    fields.read_optional(|version| version.read_tagged(Tag::context(0), |version| version.read_u8()))?;
    for _ in ["serialNumber", "signature", "issuer"] {
        fields.next().read_der()?;
    }
    let validity =
        fields.next().read_sequence(|validity| Ok((time(validity.next())?, time(validity.next())?)))?;
    skip_rest(fields)?;
    Ok(validity)
}

/// A time as certificates have it (RFC 5280, section 4.1.2.5): digits alone, in UTC. Offsets, which the encoding would
/// have, are refused before anybody reckons with them.
fn time(reader: BERReader<'_, '_>) -> ASN1Result<i64> {
    unix_s(&reader.read_der()?).ok_or_else(|| ASN1Error::new(ASN1ErrorKind::Invalid))
}

fn unix_s(der: &[u8]) -> Option<i64> {
    let (year, rest) = match der {
        [UTC_TIME, 13, text @ ..] if text.len() == 13 => {
            let (year, rest) = number(text, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        [GENERALIZED_TIME, 15, text @ ..] if text.len() == 15 => number(text, 4)?,
        _ => return None,
    };
    let (month, rest) = number(rest, 2)?;
    let (day, rest) = number(rest, 2)?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest, 2)?;
    let (second, rest) = number(rest, 2)?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let before: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    let at = usize::try_from(month).ok().filter(|it| (1..=12).contains(it))?;
    let leap = |is_so: bool| i64::from(is_leap && is_so);
    let days = before[at] - before[at - 1] + leap(month == 2);
    let is_one = (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60 && rest == b"Z";
    if !is_one {
        return None;
    }
    // Days until that year began, by the calendar of today.
    let past = year - 1;
    let years = past * 365 + past / 4 - past / 100 + past / 400 - 719_162;
    let days = years + before[at - 1] + leap(month > 2) + day - 1;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// The first digits as a number, and what follows.
fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (first, rest) = text.split_at_checked(digits)?;
    first.iter().all(u8::is_ascii_digit).then_some(())?;
    Some((first.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')), rest))
}

fn skip_rest(fields: &mut BERReaderSeq<'_, '_>) -> ASN1Result<()> {
    while fields.read_optional(|field| field.read_der())?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        let der = made.cert.der();
        assert!(validity_s(der).is_some_and(|(from, to)| from < to));
        for bytes in [&der[..der.len() - 1], &der[1..], b"", b"\x30\x80", &[0x30; 64]] {
            assert_eq!(validity_s(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_time_has_digits_and_a_z_and_no_other_form() {
        let der = |tag: u8, text: &str| [&[tag, text.len() as u8][..], text.as_bytes()].concat();
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (UTC_TIME, "000229120000Z", Some(951_825_600)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "21000301000000Z", Some(4_107_542_400)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "00010101000000Z", Some(-62_135_596_800)),
            (GENERALIZED_TIME, "21000229000000Z", None),
            (GENERALIZED_TIME, "99991231235959-2359", None),
            (GENERALIZED_TIME, "00000101000000+2359", None),
            (GENERALIZED_TIME, "99991231235959", None),
            (GENERALIZED_TIME, "9999123123595.Z", None),
            (UTC_TIME, "9912312359Z", None),
            (UTC_TIME, "991231235959-2359", None),
            (UTC_TIME, "991331235959Z", None),
            (UTC_TIME, "990031235959Z", None),
            (UTC_TIME, "990230235959Z", None),
            (UTC_TIME, "990131240000Z", None),
            (UTC_TIME, "990131236000Z", None),
            (UTC_TIME, "990131235960Z", None),
            (GENERALIZED_TIME, "991231235959Z", None),
            (4, "991231235959Z", None),
        ] {
            assert_eq!(unix_s(&der(tag, text)), expected, "{text}");
        }
    }

    #[test]
    fn a_certificate_with_a_date_of_another_form_has_no_validity_and_ends_nobody() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(9999, 12, 31);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let at = der.windows(8).position(|it| it == b"99991231").unwrap();
        assert!(validity_s(&der).is_some());
        // As long as it was, so that all around it stays as it is.
        let mut bad = der.clone();
        bad[at + 10..at + 15].copy_from_slice(b"-2359");
        assert_eq!(validity_s(&bad), None);
    }
}
