//! The Deployment controller's decision: given the pods that exist, which to start and which to end
//! next. Pure; called again after every change until it has nothing to say.

use k8s_openapi::api::apps::v1::DeploymentStrategy;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// `spec.strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All old pods end before a new one starts.
    Recreate,
    /// New pods replace old ones within these limits.
    Rolling {
        /// Pods above the wished-for number.
        surge: Share,
        /// Pods below it that may be missing.
        unavailable: Share,
    },
}

/// A number of pods, or a part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Count(usize),
    /// So many of a hundred.
    Percent(usize),
}

impl Share {
    fn parse(value: Option<&IntOrString>) -> Self {
        match value {
            None => Self::Percent(25),
            Some(IntOrString::Int(count)) => Self::Count(usize::try_from(*count).unwrap_or(0)),
            Some(IntOrString::String(text)) => {
                Self::Percent(text.trim_end_matches('%').parse().unwrap_or(25))
            }
        }
    }

    fn rounded_up(self, of: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (of * percent).div_ceil(100),
        }
    }

    fn rounded_down(self, of: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => of * percent / 100,
        }
    }
}

impl Strategy {
    /// As Kubernetes reads it: rolling, a quarter each way, unless said otherwise.
    pub fn parse(strategy: Option<&DeploymentStrategy>) -> Self {
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            return Self::Recreate;
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        Self::Rolling {
            surge: Share::parse(rolling.and_then(|rolling| rolling.max_surge.as_ref())),
            unavailable: Share::parse(rolling.and_then(|rolling| rolling.max_unavailable.as_ref())),
        }
    }
}

/// A pod as the decision sees it; pods that are being deleted are not shown to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The pod's name.
    pub name: String,
    /// Made from the present template.
    pub current: bool,
    /// Ready.
    pub ready: bool,
    /// When it came, in any unit that grows.
    pub age: u64,
}

/// What to do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// So many pods of the present template.
    pub start: usize,
    /// The pods to delete.
    pub end: Vec<String>,
}

/// Decides the next step. `leaving` is how many pods are still on their way out.
pub fn plan(replicas: usize, strategy: Strategy, members: &[Member], leaving: usize) -> Plan {
    let (mut new, mut old): (Vec<&Member>, Vec<&Member>) =
        members.iter().partition(|member| member.current);
    // Those to end first come first: not ready, then the youngest.
    let order = |a: &&Member, b: &&Member| a.ready.cmp(&b.ready).then(b.age.cmp(&a.age));
    new.sort_by(order);
    old.sort_by(order);
    let names = |members: &[&Member]| members.iter().map(|member| member.name.clone()).collect();
    match strategy {
        Strategy::Recreate if !old.is_empty() => Plan {
            start: 0,
            end: names(&old),
        },
        Strategy::Recreate if leaving > 0 && new.is_empty() => Plan::default(),
        _ if old.is_empty() => Plan {
            start: replicas.saturating_sub(new.len()),
            end: names(&new[..new.len().saturating_sub(replicas)]),
        },
        Strategy::Recreate => Plan::default(),
        Strategy::Rolling { surge, unavailable } => {
            let surge = surge.rounded_up(replicas);
            let unavailable = unavailable.rounded_down(replicas);
            // Kubernetes' own rule: both zero would never move.
            let unavailable = if surge == 0 {
                unavailable.max(1)
            } else {
                unavailable
            };
            let total = new.len() + old.len();
            let start = (replicas + surge)
                .saturating_sub(total)
                .min(replicas.saturating_sub(new.len()));
            let floor = replicas.saturating_sub(unavailable);
            let ready = members.iter().filter(|member| member.ready).count();
            let mut spare = ready.saturating_sub(floor);
            let mut end: Vec<String> = names(&new[..new.len().saturating_sub(replicas)]);
            for member in old {
                if !member.ready {
                    end.push(member.name.clone());
                } else if spare > 0 {
                    spare -= 1;
                    end.push(member.name.clone());
                }
            }
            Plan { start, end }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Strategy = Strategy::Rolling {
        surge: Share::Percent(25),
        unavailable: Share::Percent(25),
    };

    fn member(name: &str, current: bool, ready: bool) -> Member {
        Member {
            name: name.to_owned(),
            current,
            ready,
            age: 0,
        }
    }

    #[test]
    fn starts_all_at_first_and_scales_down_the_unready() {
        assert_eq!(plan(3, DEFAULT, &[], 0).start, 3);
        let members = [member("a", true, true), member("b", true, false)];
        assert_eq!(plan(1, DEFAULT, &members, 0).end, ["b"]);
        assert_eq!(plan(0, DEFAULT, &members, 0).end.len(), 2);
    }

    /// Three replicas by default: one above, none below, whatever state the newcomers are in.
    #[test]
    fn rolls_over_one_by_one() {
        let mut members: Vec<Member> = ["a", "b", "c"]
            .iter()
            .map(|name| member(name, false, true))
            .collect();
        for round in 0..3 {
            let first = plan(3, DEFAULT, &members, 0);
            assert_eq!((first.start, first.end.len()), (1, 0), "round {round}");
            members.push(member(&format!("n{round}"), true, false));
            assert_eq!(
                plan(3, DEFAULT, &members, 0),
                Plan::default(),
                "waits for the newcomer"
            );
            members.last_mut().unwrap().ready = true;
            let then = plan(3, DEFAULT, &members, 0);
            assert_eq!((then.start, then.end.len()), (0, 1));
            members.retain(|member| member.name != then.end[0]);
        }
        assert!(members.iter().all(|member| member.current));
        assert_eq!(plan(3, DEFAULT, &members, 0), Plan::default());
    }

    #[test]
    fn recreate_waits_until_the_old_are_gone() {
        let old = [member("a", false, true)];
        assert_eq!(plan(1, Strategy::Recreate, &old, 0).end, ["a"]);
        assert_eq!(plan(1, Strategy::Recreate, &[], 1), Plan::default());
        assert_eq!(plan(1, Strategy::Recreate, &[], 0).start, 1);
    }
}
