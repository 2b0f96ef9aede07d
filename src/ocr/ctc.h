// CTC decoding: from class probabilities of every step to text.
#pragma once

#include <string>
#include <vector>

namespace trireme::ocr {

// The characters a recogniser knows. Class 0 is the blank, then the characters in order, then a
// space.
using Dictionary = std::vector<std::string>;

struct Reading {
  std::string text;
  float score = 0;  // mean probability of the kept characters, 0 for none
};

// The first of the largest of `count` values.
int arg_max(const float* values, int count);

// `steps` rows of `classes` probabilities; classes = dictionary + 1 or + 2.
Reading decode_ctc(const float* probabilities, int steps, int classes,
                   const Dictionary& dictionary);

}  // namespace trireme::ocr
