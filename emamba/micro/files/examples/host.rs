// A sequence of zeros: rustc examples/host.rs -L . -l emamba_model
extern "C" {
    fn model_init(m: *mut u64) -> i32;
    fn model_run(m: *mut u64, sequence: *const $rust_input, count: u32, result: *mut $rust_output, size: u32) -> i32;
}

fn main() {
    let (mut m, sequence, mut result) = ([0u64; $ram / 8], [0 as $rust_input; $read], [0 as $rust_output; $given]);
    let code = unsafe {
        model_init(m.as_mut_ptr());
        model_run(m.as_mut_ptr(), sequence.as_ptr(), $read, result.as_mut_ptr(), $given)
    };
    result.iter().take($output_width).for_each(|value| println!("{value}"));
    std::process::exit(code);
}
