# SPDX-License-Identifier: Apache-2.0
# Shared by tf/Makefile and tf_multi/Makefile: build/nms_custom_op.so and build/codelet.gp, with the Poplar SDK enabled.
# tests/poplar_model builds the same files with its own compiler, headers and library.

CXX ?= g++
CXXFLAGS ?= -O2
POPC ?= popc
POPCFLAGS ?= -O3
LDLIBS ?= -lpoplar -lpoputil
BUILD ?= build
TOOLS ?=

OP_HEADERS := $(addprefix ../,nms_core.hpp nms_plan.hpp nms.hpp attributes.hpp nms_custom_op.hpp)

.PHONY: all sdk clean
all: $(BUILD)/nms_custom_op.so $(BUILD)/codelet.gp

# Before anything else, so that without an SDK there is an explanation instead of a compiler's complaint about headers.
sdk:
	@command -v $(POPC) >/dev/null || { \
	  echo "error: $(POPC) was not found, so the NMS operator for the IPU cannot be built here."; \
	  echo "Enable the Poplar SDK first (source <sdk>/poplar-*/enable.sh), or name the compiler with POPC=."; \
	  echo "Without an IPU nothing is missing: 'make' in the project's root builds the libraries for the host."; \
	  exit 1; } >&2

$(BUILD)/nms_custom_op.so: nms_custom_op.cpp ../nms.cpp $(OP_HEADERS) ../poplar.mk $(TOOLS) | sdk
	@mkdir -p $(BUILD)
	$(CXX) -std=c++14 $(CXXFLAGS) $(CPPFLAGS) -Wall -Wextra -ffp-contract=off -fPIC -shared nms_custom_op.cpp ../nms.cpp \
	  $(LDFLAGS) $(LDLIBS) -o $@.tmp && mv -f $@.tmp $@

# Compiled now rather than by TensorFlow at every start; for all targets the SDK knows, unless POPCFLAGS says otherwise.
$(BUILD)/codelet.gp: ../codelet.cpp ../nms_core.hpp ../poplar.mk $(TOOLS) | sdk
	@mkdir -p $(BUILD)
	$(POPC) $(POPCFLAGS) ../codelet.cpp -o $@.tmp && mv -f $@.tmp $@

clean:
	rm -rf $(BUILD)
