//! Where a balancer stands with the gateway's configuration and its purges, as it says by gossip.

use std::fmt;
use std::str::FromStr;

/// A text that does not say where a balancer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not where a balancer stands")]
pub struct NoStand;

/// What stands for nothing.
const NONE: &str = "-";

/// A revision of the gateway's configuration that the cluster keeps: `LINEAGE:7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayRevision {
    /// Which history the number is of; 0 before its first document.
    pub lineage: u128,
    pub number: u64,
}

impl fmt::Display for GatewayRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}:{}", self.lineage, self.number)
    }
}

impl FromStr for GatewayRevision {
    type Err = NoStand;

    fn from_str(text: &str) -> Result<Self, NoStand> {
        let (lineage, number) = text.split_once(':').ok_or(NoStand)?;
        let is_lineage = lineage.len() == 32 && lineage.bytes().all(|b| b.is_ascii_hexdigit());
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        if !is_lineage || !is_number {
            return Err(NoStand);
        }
        let lineage = u128::from_str_radix(lineage, 16).map_err(|_| NoStand)?;
        Ok(Self { lineage, number: number.parse().map_err(|_| NoStand)? })
    }
}

/// Where a balancer stands with it: what is in force, and behind a comma a newer one that it cannot read; `-` for none.
/// Behind a space, the last purge that it obeys, of a cluster's: a word of its own, which is read apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GatewayAt {
    /// None where it serves nothing, for it could read none.
    pub in_force: Option<GatewayRevision>,
    /// A newer one, which it cannot read.
    pub refused: Option<GatewayRevision>,
    /// Of which cluster, and which number; None where it knows of none.
    pub purged: Option<GatewayRevision>,
}

impl fmt::Display for GatewayAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.in_force {
            None => f.write_str(NONE)?,
            Some(in_force) => in_force.fmt(f)?,
        }
        self.refused.map_or(Ok(()), |refused| write!(f, ",{refused}"))?;
        self.purged.map_or(Ok(()), |purged| write!(f, " {purged}"))
    }
}

impl FromStr for GatewayAt {
    type Err = NoStand;

    fn from_str(text: &str) -> Result<Self, NoStand> {
        let (text, purged) = match text.split_once(' ') {
            None => (text, None),
            Some((text, purged)) => (text, Some(purged.parse()?)),
        };
        let (in_force, refused) = match text.split_once(',') {
            None => (text, None),
            Some((in_force, refused)) => (in_force, Some(refused.parse()?)),
        };
        let in_force = if in_force == NONE { None } else { Some(in_force.parse()?) };
        Ok(Self { in_force, refused, purged })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_balancer_stands_is_read_as_it_is_written_or_not_at_all() {
        let lineage = format!("{:032x}", 5);
        for wrong in [
            String::new(),
            lineage.clone(),
            format!("{lineage}:"),
            format!("{lineage}:+7"),
            format!("{lineage}:7:"),
            format!("{lineage}:7:8"),
            format!("{lineage}:7,"),
            format!("{lineage}:7,-"),
            format!("{lineage}:7,{lineage}:8,{lineage}:9"),
            format!("{lineage}0:7"),
            format!("+{}:7", &lineage[1..]),
            format!("{lineage}:{}0", u64::MAX),
            format!("{}:7", &lineage[1..]),
        ] {
            assert!(wrong.parse::<GatewayAt>().is_err(), "{wrong}");
        }
    }
}
