// How exact and how repeatable products are.
#include "device/precision.h"

#include <atomic>
#include <cstdlib>
#include <string_view>

namespace trireme {
namespace {

bool flag(const char* variable, bool otherwise) {
  const char* value = std::getenv(variable);
  if (value == nullptr || *value == '\0') return otherwise;
  const std::string_view text = value;
  return text != "0" && text != "false" && text != "False";
}

std::atomic<bool>& setting(Products products) {
  static std::atomic<bool> convolutions{flag("FLAGS_allow_tf32_cudnn", true)};
  static std::atomic<bool> matrices{flag("FLAGS_allow_tf32_cublas", false)};
  return products == Products::kConvolutions ? convolutions : matrices;
}

thread_local bool denied = false;
thread_local bool half_products = false;

}  // namespace

bool allows_tf32(Products products) { return !denied && setting(products); }
void allow_tf32(Products products, bool allowed) { setting(products) = allowed; }

NoTf32Scope::NoTf32Scope(bool on) : before_(denied) { denied = denied || on; }
NoTf32Scope::~NoTf32Scope() { denied = before_; }

bool allows_half_products() { return half_products; }
HalfProductsScope::HalfProductsScope(bool on) : before_(half_products) { half_products = on; }
HalfProductsScope::~HalfProductsScope() { half_products = before_; }

bool cudnn_deterministic(bool otherwise) { return flag("FLAGS_cudnn_deterministic", otherwise); }

}  // namespace trireme
