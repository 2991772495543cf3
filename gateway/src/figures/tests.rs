use super::*;

fn counts(seed: u64) -> Counts {
    let mut counts = Counts::default();
    for (at, number) in counts.numbers_mut().into_iter().enumerate() {
        *number = seed.wrapping_mul(at as u64 + 1);
    }
    counts
}

fn figures(routes: usize, services: usize) -> Figures {
    let servers = |n| Servers { name: format!("s-{n}"), known: n as u64, able: 0 };
    Figures {
        over_ms: 1007,
        all: counts(u64::MAX),
        routes: (0..routes).map(|n| (format!("{n:0>64}"), counts(1 << 40))).collect(),
        services: (0..services).map(servers).collect(),
        rest: Rest { routes: 2, services: 3, counts: counts(5) },
    }
}

/// What comes of the datagrams, in this order.
fn gathered(parts: impl IntoIterator<Item = Vec<u8>>) -> Option<Figures> {
    let mut gathering = Gathering::default();
    parts.into_iter().fold(None, |whole, part| whole.or(gathering.add(Part::decode(&part).unwrap())))
}

#[test]
fn an_answer_survives_its_parts_in_any_order() {
    for (routes, services) in [(0, 0), (1, 1), (20, SERVICES_MAX)] {
        let told = figures(routes, services);
        let parts = told.parts(7);
        assert_eq!(gathered(parts.clone()).unwrap(), told);
        let back = gathered(parts.clone().into_iter().rev()).unwrap();
        assert_eq!((back.all, back.rest, back.routes.len()), (told.all, told.rest, routes));
        for part in &parts {
            assert!(part.len() <= PART_BYTES_MAX, "{}", part.len());
            let read = Part::decode(part).unwrap();
            assert_eq!((read.encode(), read.number), (part.clone(), 7));
        }
        if parts.len() > 1 {
            assert_eq!(gathered(parts[1..].to_vec()), None, "one is lost");
        }
    }
}

#[test]
fn what_there_is_no_room_for_is_summed_up() {
    let told = figures(1000, SERVICES_MAX + 5);
    let parts = told.parts(1);
    assert_eq!(parts.len(), PARTS_MAX);
    assert!(parts.iter().all(|it| it.len() <= PART_BYTES_MAX));
    let heard = gathered(parts).unwrap();
    let shown = heard.routes.len();
    assert!(shown > 20, "{shown}");
    assert_eq!(heard.routes, told.routes[..shown], "the first ones");
    assert_eq!(heard.services, told.services[..SERVICES_MAX]);
    assert_eq!((heard.rest.routes, heard.rest.services), (2 + 1000 - shown as u64, 3 + 5));
    let mut sum = Counts::default();
    told.routes[shown..].iter().for_each(|(_, it)| sum.add(it));
    sum.add(&told.rest.counts);
    assert_eq!(heard.rest.counts, sum);
    assert_eq!(sum.refused[6], (1000 - shown as u64) * 14 * (1 << 40) + 70);
}

#[test]
fn what_is_said_on_the_wire_stays_as_it_is() {
    let ask = Ask { node: 0x0102, number: 0x0304 };
    let bytes = [0x66, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4];
    assert_eq!((ask.encode(), Ask::decode(&bytes)), (bytes.to_vec(), Ok(ask)));
    let all = Counts { recent: 300, answers: [0, 0, 7, 0, 0, 1], refused: [0, 0, 5, 0, 0, 0, 0] };
    let told = Figures {
        over_ms: 1000,
        all,
        routes: vec![("a".into(), Counts::default())],
        services: vec![Servers { name: "b".into(), known: 3, able: 2 }],
        rest: Rest::default(),
    };
    let mut bytes = vec![0x66, 1, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1];
    bytes.extend([0, 0xe8, 7, 0xac, 2, 0, 0, 7, 0, 0, 1, 0, 0, 5, 0, 0, 0, 0]);
    bytes.extend([[3, 0].to_vec(), vec![0; 15]].concat());
    bytes.extend([2, 1, b'b', 3, 2]);
    bytes.extend([[1, 1, b'a'].to_vec(), vec![0; 14]].concat());
    assert_eq!(told.parts(9), [bytes]);
}

#[test]
fn what_is_no_answer_is_refused() {
    let [part] = &figures(1, 1).parts(3)[..] else { panic!("one part") };
    for end in 0..HEAD_BYTES {
        assert!(Part::decode(&part[..end]).is_err(), "{end}");
    }
    let with = |at: usize, byte: u8| {
        let mut bytes = part.clone();
        bytes[at] = byte;
        bytes
    };
    let more = |bytes: &[u8]| [&part[..HEAD_BYTES], bytes].concat();
    for wrong in [
        with(0, 1),
        with(1, 2),
        with(2, ASK),
        with(11, 1),
        with(12, 0),
        with(12, PARTS_MAX as u8 + 1),
        more(&[9]),
        more(&[SERVICE, 0, 1, 1]),
        more(&[SERVICE, 1, b'<', 1, 1]),
        more(&[SERVICE, 65, b'a']),
        more(&[[SERVICE, 1, b'a'].as_slice(), &[0x80; 10], &[0]].concat()),
        more(&[[SERVICE, 1, b'a', 1].as_slice(), &[0xff; 9], &[2]].concat()),
        more(&[SERVICE, 1, b'a', 0x81, 0, 1]),
        vec![0; PART_BYTES_MAX + 1],
    ] {
        assert!(Part::decode(&wrong).is_err(), "{wrong:?}");
    }
    assert!(Part::decode(&more(&[[SERVICE, 1, b'a', 1].as_slice(), &[0xff; 9], &[1]].concat())).is_ok());
    let ask = Ask { node: 1, number: 2 }.encode();
    assert!(Ask::decode(&[ask.as_slice(), &[0]].concat()).is_err());
    assert!(Ask::decode(&ask[1..]).is_err());
    assert!(crate::exchange::Frame::decode(&ask).is_err(), "a version before hears nothing of it");
    assert!(crate::exchange::Frame::decode(part).is_err());
}

#[test]
fn parts_of_two_answers_are_none() {
    let (short, long) = (figures(1, 1).parts(3), figures(100, 1).parts(3));
    let mut gathering = Gathering::default();
    assert_eq!(gathering.add(Part::decode(&long[0]).unwrap()), None);
    assert_eq!(gathering.add(Part::decode(&short[0]).unwrap()), None);
}
