// Which products may use TF32.
#include "device/precision.h"

#include <gtest/gtest.h>

#include <thread>

namespace trireme {
namespace {

TEST(Tf32, AScopeDeniesItToItsThread) {
  const bool before = allows_tf32(Products::kConvolutions);
  allow_tf32(Products::kConvolutions, true);
  {
    const NoTf32Scope scope(true);
    EXPECT_FALSE(allows_tf32(Products::kConvolutions));
    const NoTf32Scope inner(false);
    EXPECT_FALSE(allows_tf32(Products::kConvolutions));
    bool elsewhere = false;
    std::thread([&] { elsewhere = allows_tf32(Products::kConvolutions); }).join();
    EXPECT_TRUE(elsewhere);
  }
  EXPECT_TRUE(allows_tf32(Products::kConvolutions));
  allow_tf32(Products::kConvolutions, before);
}

}  // namespace
}  // namespace trireme
