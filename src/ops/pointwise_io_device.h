// Memory forms of the dtypes for printed kernels: single elements, and vectors as 32-bit words
// (structs of halves would be read in pieces). Text for NVRTC.
#pragma once

namespace {

// in: the bits of an element as the type that is computed with; out: the way back, rounded to even.
#define TRI_FORM(name, value, memory, bits, to_value, to_bits) \
  struct name {                                                \
    typedef value Value;                                       \
    typedef memory Memory;                                     \
    typedef bits Bits;                                         \
    static inline value in(bits b) { to_value }                \
    static inline bits out(value v) { to_bits }                \
  };
TRI_FORM(F32, float, unsigned, unsigned, return __uint_as_float(b);, return __float_as_uint(v);)
TRI_FORM(F64, double, unsigned long long, unsigned long long,
         return __longlong_as_double((long long)b);
         , return (unsigned long long)__double_as_longlong(v);)
TRI_FORM(F16, float, unsigned short, unsigned, float f;
         asm("{.reg .b16 h; cvt.u16.u32 h, %1; cvt.f32.f16 %0, h;}"
             : "=f"(f)
             : "r"(b));
         return f;, unsigned b; asm("{.reg .b16 h; cvt.rn.f16.f32 h, %1; cvt.u32.u16 %0, h;}"
                                    : "=r"(b)
                                    : "f"(v));
         return b;)
TRI_FORM(BF16, float, unsigned short, unsigned, return __uint_as_float(b << 16);, unsigned b;
         asm("{.reg .b16 h; cvt.rn.bf16.f32 h, %1; cvt.u32.u16 %0, h;}"
             : "=r"(b)
             : "f"(v));
         return b;)
TRI_FORM(I64, int64_t, unsigned long long, unsigned long long, return (int64_t)b;
         , return (unsigned long long)v;)
TRI_FORM(I32, int64_t, unsigned, unsigned, return (int)b;, return (unsigned)v;)
TRI_FORM(I16, int64_t, unsigned short, unsigned, return (short)b;, return (unsigned)v & 0xffffu;)
TRI_FORM(I8, int64_t, unsigned char, unsigned, return (signed char)b;, return (unsigned)v & 0xffu;)
TRI_FORM(U8, int64_t, unsigned char, unsigned, return b;, return (unsigned)v & 0xffu;)
TRI_FORM(BOOL, int64_t, unsigned char, unsigned, return b;, return v != 0;)
#undef TRI_FORM

// The next kernel's blocks may come; this one goes on when the one in front has ended.
inline void begin_behind_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

template <class F, class I> inline typename F::Value get(const void* p, I i) {
  return F::in(((const typename F::Memory*)p)[i]);
}
template <class F, class I> inline void put(void* p, I i, typename F::Value v) {
  ((typename F::Memory*)p)[i] = (typename F::Memory)F::out(v);
}

// V elements as words; their bytes are a multiple of 8.
template <class F, int V> struct Vector {
  static constexpr int kBytes = sizeof(typename F::Memory), kWords = V * kBytes / 4;
  unsigned w[kWords];

  template <class I> inline void load(const void* p, I first) {
    const char* from = (const char*)p + (size_t)first * kBytes;
    if constexpr (kWords % 4 == 0) {
#pragma unroll
      for (int k = 0; k < kWords; k += 4) {
        const uint4 u = ((const uint4*)from)[k / 4];
        w[k] = u.x, w[k + 1] = u.y, w[k + 2] = u.z, w[k + 3] = u.w;
      }
    } else {
      const uint2 u = *(const uint2*)from;
      w[0] = u.x, w[1] = u.y;
    }
  }
  template <class I> inline void store(void* p, I first) const {
    char* to = (char*)p + (size_t)first * kBytes;
    if constexpr (kWords % 4 == 0) {
#pragma unroll
      for (int k = 0; k < kWords; k += 4)
        ((uint4*)to)[k / 4] = make_uint4(w[k], w[k + 1], w[k + 2], w[k + 3]);
    } else {
      *(uint2*)to = make_uint2(w[0], w[1]);
    }
  }
  inline typename F::Value at(int k) const {
    if constexpr (kBytes == 8) return F::in(w[2 * k] | (unsigned long long)w[2 * k + 1] << 32);
    else if constexpr (kBytes == 4) return F::in(w[k]);
    else if constexpr (kBytes == 2) return F::in(w[k / 2] >> 16 * (k % 2) & 0xffffu);
    else return F::in(w[k / 4] >> 8 * (k % 4) & 0xffu);
  }
  // In the order of k: the first element of a word clears it.
  inline void set(int k, typename F::Value v) {
    const typename F::Bits b = F::out(v);
    if constexpr (kBytes == 8)
      w[2 * k] = (unsigned)b, w[2 * k + 1] = (unsigned)((unsigned long long)b >> 32);
    else if constexpr (kBytes == 4) w[k] = (unsigned)b;
    else if constexpr (kBytes == 2) w[k / 2] = k % 2 ? w[k / 2] | (unsigned)b << 16 : (unsigned)b;
    else w[k / 4] = k % 4 ? w[k / 4] | (unsigned)b << 8 * (k % 4) : (unsigned)b;
  }
};

// i / d by a multiplication: d's factor and shift come with it. i < 2^31.
inline unsigned divided(unsigned i, int64_t, int64_t factor, int64_t shift) {
  return (__umulhi(i, (unsigned)factor) + i) >> (unsigned)shift;
}
inline unsigned long long divided(unsigned long long i, int64_t d, int64_t, int64_t) {
  return i / (unsigned long long)d;
}

}  // namespace
