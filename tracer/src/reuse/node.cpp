// A node of libtorch's graph that calls Rust for its backward pass. A layer that was computed with reuse
// thus gets the gradients of reuse, not those of the operations that computed its output.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <stdexcept>

extern "C" {
// Defined in Rust: writes the wanted gradients into the slots by mercury_set; false if it failed.
bool mercury_backward(void* state, const at::Tensor* gradient, bool wants_x, bool wants_w, at::Tensor* x, at::Tensor* w);
// Defined in Rust: releases the state.
void mercury_release(void* state);
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct State : torch::CustomClassHolder {
    explicit State(void* rust) : rust(rust) {}
    ~State() override { mercury_release(rust); }
    void* rust;
};

struct Reused : torch::autograd::Function<Reused> {
    static at::Tensor forward(AutogradContext* context, const at::Tensor& /*x*/, const at::Tensor& /*w*/,
                              const at::Tensor& y, const c10::intrusive_ptr<State>& state) {
        context->saved_data["state"] = c10::IValue::make_capsule(state);
        return y.detach();
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        auto state = context->saved_data["state"].toCapsule();
        at::Tensor x, w;
        void* rust = static_cast<State*>(state.get())->rust;
        if (!mercury_backward(rust, &gradients[0], context->needs_input_grad(0), context->needs_input_grad(1), &x, &w)) {
            throw std::runtime_error("the backward pass of a layer with reuse failed");
        }
        return {x, w, at::Tensor(), at::Tensor()};
    }
};

}  // namespace

extern "C" {

// Returns y as a function of x and w; the state computes its gradients. If libtorch refuses, returns null
// and writes the reason. Takes ownership of the state in either case.
at::Tensor* mercury_attach(const at::Tensor* x, const at::Tensor* w, const at::Tensor* y, void* rust, char* reason,
                           size_t length) {
    try {
        auto state = c10::make_intrusive<State>(rust);
        return new at::Tensor(Reused::apply(*x, *w, *y, state));
    } catch (const std::exception& error) {
        std::strncpy(reason, error.what(), length - 1);
        reason[length - 1] = 0;
        return nullptr;
    }
}

void mercury_set(at::Tensor* slot, const at::Tensor* value) { *slot = *value; }
}
