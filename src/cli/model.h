// Where fetched models lie; for the verbs that have a model of their own by default.
#pragma once

#include <filesystem>
#include <string>

namespace trireme::cli {

// $TRIREME_MODELS, or $XDG_CACHE_HOME/trireme/models, or ~/.cache/trireme/models; it need not
// exist.
std::filesystem::path model_cache();

// The folder of a model that `trireme model fetch` knows, in model_cache(). Throws kNotFound,
// saying how to fetch it, when it is not complete there (sizes are checked, not contents).
std::filesystem::path fetched_model(const std::string& name);

}  // namespace trireme::cli
