//! Versions of programs, as far as they say who understands whom: neighbouring minor versions do.

/// `MAJOR.MINOR.PATCH`, with whatever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u64,
    minor: u64,
    patch: u64,
}

/// How far two versions are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distance {
    /// The same minor version.
    Same,
    /// One minor version.
    Neighbour,
    /// More than that.
    Far,
}

impl Version {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let numbers = text.split(['-', '+']).next()?;
        let mut parts = numbers.split('.').map(|part| part.parse().ok());
        let (major, minor, patch) = (
            parts.next()??,
            parts.next()??,
            parts.next().unwrap_or(Some(0))?,
        );
        parts.next().is_none().then_some(Self {
            major,
            minor,
            patch,
        })
    }

    pub(crate) fn distance(&self, other: &Self) -> Distance {
        match self.minor.abs_diff(other.minor) {
            _ if self.major != other.major => Distance::Far,
            0 => Distance::Same,
            1 => Distance::Neighbour,
            _ => Distance::Far,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_minor_version_apart() {
        let version = |text| Version::parse(text).unwrap();
        let distance = |one, other| version(one).distance(&version(other));
        assert_eq!(distance("0.1.0", "0.1.7"), Distance::Same);
        assert_eq!(distance("v1.3.0-rc.1", "1.2"), Distance::Neighbour);
        assert_eq!(distance("1.3.0", "1.1.0"), Distance::Far);
        assert_eq!(distance("2.0.0", "1.0.0"), Distance::Far);
        assert!(version("0.10.0") > version("0.9.9"));
        for odd in ["", "latest", "1", "1.2.3.4"] {
            assert_eq!(Version::parse(odd), None, "{odd}");
        }
    }
}
