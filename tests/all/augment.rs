//! Random changes to images: on the device as in the reference, the same however a batch is split, and what they say.

use crate::ops::harness::{compare, decode, words};
use std::collections::HashMap;
use wgrad::dtype::DType;
use wgrad::gpu::Session;
use wgrad::graph::Graph;
use wgrad::lower::lower;
use wgrad::nn::Augment;
use wgrad::program::StateLayout;
use wgrad::reference::{Array, eval};

const ALL: Augment =
    Augment { shift: 0.2, rotate: 20.0, scale: 0.2, flip: 0.5, brightness: 0.3, contrast: 0.4, saturation: 0.5 };
const WHITE: f64 = 255.0;

fn traced(augment: Augment, shape: [usize; 4], dtype: DType) -> Graph {
    let graph = Graph::new();
    graph.set_training(true);
    graph.output("y", augment.forward(graph.input("x", shape, dtype), WHITE));
    graph
}

/// Images whose pixels differ, from image `first` on.
fn images(shape: [usize; 4], first: usize, dtype: DType) -> Array {
    let each: usize = shape[1..].iter().product();
    let value = |i: usize| ((i + first * each) * 37 % 251 + 1) as f64;
    Array::new(shape, dtype, (0..shape.iter().product()).map(value).collect())
}

fn feeds(shape: [usize; 4], first: usize, dtype: DType) -> HashMap<String, Array> {
    let key = Array::new([2], DType::U32, vec![5.0, first as f64]);
    HashMap::from([("x".to_string(), images(shape, first, dtype)), ("rng.key".to_string(), key)])
}

fn on_device(graph: &Graph, feeds: &HashMap<String, Array>) -> Vec<f64> {
    let device = crate::device();
    let program = lower("augment", graph, &StateLayout::default(), device.profile()).expect("compiles");
    let inputs: Vec<String> = program.inputs.iter().map(|input| input.name.clone()).collect();
    let mut session = Session::new(&device, StateLayout::default(), vec![program]).expect("allocates");
    for name in inputs {
        session.write_input(0, &name, &words(&feeds[&name])).expect("fits");
    }
    let ticket = session.run(&[0]).expect("runs");
    decode(session.fetch(ticket).expect("comes back").bytes("y").expect("an output"), DType::F32)
}

#[test]
fn the_device_changes_images_as_the_reference_does() {
    let crop = Augment { shift: 0.25, flip: 0.5, ..Augment::default() };
    let turn = Augment { rotate: 30.0, ..Augment::default() };
    let colours = Augment { brightness: 1.0, contrast: 1.0, saturation: 1.0, ..Augment::default() };
    for (name, augment, shape, dtype) in [
        ("everything", ALL, [6, 3, 9, 7], DType::U8),
        ("everything, of floats", ALL, [6, 3, 8, 8], DType::F32),
        ("everything, in grey", ALL, [5, 1, 8, 8], DType::U8),
        ("two channels", ALL, [3, 2, 4, 4], DType::F32),
        ("crop and flip", crop, [8, 3, 8, 6], DType::U8),
        ("turning alone", turn, [4, 1, 5, 5], DType::F32),
        ("colours alone", colours, [8, 3, 4, 4], DType::U8),
        ("a shift of no pixel", Augment { shift: 0.01, ..Augment::default() }, [2, 3, 4, 4], DType::U8),
    ] {
        let graph = traced(augment, shape, dtype);
        graph.error().unwrap_or_else(|error| panic!("{name}: {error}"));
        let feeds = feeds(shape, 100, dtype);
        let got = on_device(&graph, &feeds);
        let values: Vec<_> = graph.outputs().into_iter().map(|(_, value)| value).collect();
        let want = eval(&graph, &values, &feeds, &HashMap::new()).expect("evaluates");
        compare(name, &got, &want[0].data, (1e-4, 1e-4)).unwrap_or_else(|error| panic!("{error}"));
        assert!(got.iter().all(|x| (0.0..=1.0).contains(x)), "{name} leaves 0..=1");
    }
}

#[test]
fn an_image_is_changed_alike_however_the_batch_is_split() {
    let whole = on_device(&traced(ALL, [6, 3, 8, 8], DType::U8), &feeds([6, 3, 8, 8], 40, DType::U8));
    let part = |first| on_device(&traced(ALL, [2, 3, 8, 8], DType::U8), &feeds([2, 3, 8, 8], first, DType::U8));
    assert_eq!([part(40), part(42), part(44)].concat(), whole);
}

#[test]
fn evaluation_leaves_images_alone() {
    let graph = Graph::new();
    graph.output("y", ALL.forward(graph.input("x", [2, 3, 4, 4], DType::U8), WHITE));
    assert!(!graph.to_text().contains("rng.key"));
    let feeds = feeds([2, 3, 4, 4], 0, DType::U8);
    let want: Vec<f64> = feeds["x"].data.iter().map(|x| x / WHITE).collect();
    compare("evaluation", &on_device(&graph, &feeds), &want, (1e-6, 0.0)).unwrap_or_else(|error| panic!("{error}"));
}

/// Every place of a crop and both sides of a mirror come about as often.
#[test]
fn a_crop_moves_by_whole_pixels_and_mirrors_half_of_the_images() {
    let (shape, reach) = ([400, 1, 8, 8], 2i32);
    let augment = Augment { shift: 0.25, flip: 0.5, ..Augment::default() };
    let feeds = feeds(shape, 0, DType::U8);
    let (got, images) = (on_device(&traced(augment, shape, DType::U8), &feeds), &feeds["x"].data);
    let mut found: HashMap<(i32, i32, bool), usize> = HashMap::new();
    for (image, changed) in images.chunks_exact(64).zip(got.chunks_exact(64)) {
        let at = |x: i32, y: i32| match (0..8).contains(&x) && (0..8).contains(&y) {
            true => image[(y * 8 + x) as usize] / WHITE,
            false => 0.0,
        };
        let places = (-reach..=reach).flat_map(|dy| (-reach..=reach).map(move |dx| (dx, dy)));
        let ways = places.flat_map(|(dx, dy)| [(dx, dy, false), (dx, dy, true)]);
        let same = |&(dx, dy, flip): &(i32, i32, bool)| {
            (0..64).all(|i| {
                let (x, y) = (i % 8, i / 8);
                let x = if flip { 7 - x } else { x };
                (at(x + dx, y + dy) - changed[i as usize]).abs() < 1e-6
            })
        };
        let way = ways.into_iter().find(same).expect("a crop of the image");
        *found.entry(way).or_default() += 1;
    }
    // 400 images in 50 ways, 8 of each expected.
    assert!(found.len() == 50 && found.values().all(|&count| (1..=22).contains(&count)), "{found:?}");
    let mirrored: usize = found.iter().filter(|(way, _)| way.2).map(|(_, count)| count).sum();
    assert!((160..=240).contains(&mirrored), "{mirrored} of 400");
}

#[test]
fn images_of_another_rank_are_refused() {
    let graph = Graph::new();
    ALL.forward(graph.input("x", [2, 4, 4], DType::U8), WHITE);
    let message = graph.error().unwrap_err().to_string();
    assert!(message.contains("[samples, channels, height, width]") && message.contains("augment.rs"), "{message}");
}
