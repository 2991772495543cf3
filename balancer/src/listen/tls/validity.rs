//! The end of a certificate's validity: as much of X.509 (RFC 5280, section 4.1) as leads there.

use yasna::{ASN1Result, BERReader, BERReaderSeq, Tag};

/// The tag number of GeneralizedTime (X.680, section 8).
const GENERALIZED_TIME: u64 = 24;

/// `notAfter` of a certificate in DER, in Unix time; none where it cannot be read.
pub fn not_after_s(der: &[u8]) -> Option<i64> {
    yasna::parse_der(der, |certificate| {
        certificate.read_sequence(|certificate| {
            let not_after = certificate.next().read_sequence(to_be_signed)?;
            skip_rest(certificate)?;
            Ok(not_after)
        })
    })
    .ok()
}

fn to_be_signed(fields: &mut BERReaderSeq<'_, '_>) -> ASN1Result<i64> {
    fields.read_optional(|version| version.read_tagged(Tag::context(0), |version| version.read_u8()))?;
    for _ in ["serialNumber", "signature", "issuer"] {
        fields.next().read_der()?;
    }
    let not_after = fields.next().read_sequence(|validity| {
        time(validity.next())?;
        time(validity.next())
    })?;
    skip_rest(fields)?;
    Ok(not_after)
}

fn time(reader: BERReader<'_, '_>) -> ASN1Result<i64> {
    if reader.lookahead_tag()?.tag_number == GENERALIZED_TIME {
        reader.read_generalized_time().map(|time| time.datetime().unix_timestamp())
    } else {
        reader.read_utctime().map(|time| time.datetime().unix_timestamp())
    }
}

fn skip_rest(fields: &mut BERReaderSeq<'_, '_>) -> ASN1Result<()> {
    while fields.read_optional(|field| field.read_der())?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        let der = made.cert.der();
        assert!(not_after_s(der).is_some());
        for bytes in [&der[..der.len() - 1], &der[1..], b"", b"\x30\x80", &[0x30; 64]] {
            assert_eq!(not_after_s(bytes), None, "{bytes:?}");
        }
    }
}
