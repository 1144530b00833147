# install.cmake — what `make install` puts where: program, both libraries, header, pkg-config and CMake package files,
# man page, shell completions, the default model, documents. Everything goes below the prefix and nothing names the
# prefix, so an installed tree can be moved as a whole.
include(CMakePackageConfigHelpers)

install(TARGETS zamba EXPORT zamba LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS zamba_static ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/zamba.h include/zamba_train.h include/zamba_backbone.h include/zamba_replay.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

# The program, and the man page and completions that it writes itself from its one table of options.
install(TARGETS zamba_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
if(NOT CMAKE_CROSSCOMPILING)
  set(ZAMBA_MANUAL ${CMAKE_BINARY_DIR}/manual)
  add_custom_command(OUTPUT ${ZAMBA_MANUAL}/zamba.1 ${ZAMBA_MANUAL}/zamba.bash ${ZAMBA_MANUAL}/_zamba
                            ${ZAMBA_MANUAL}/zamba.fish
                     COMMAND ${CMAKE_COMMAND} -E make_directory ${ZAMBA_MANUAL}
                     COMMAND zamba_program man > ${ZAMBA_MANUAL}/zamba.1
                     COMMAND zamba_program completion bash > ${ZAMBA_MANUAL}/zamba.bash
                     COMMAND zamba_program completion zsh > ${ZAMBA_MANUAL}/_zamba
                     COMMAND zamba_program completion fish > ${ZAMBA_MANUAL}/zamba.fish
                     DEPENDS zamba_program VERBATIM)
  add_custom_target(zamba_manual ALL DEPENDS ${ZAMBA_MANUAL}/zamba.1)
  install(FILES ${ZAMBA_MANUAL}/zamba.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${ZAMBA_MANUAL}/zamba.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
          RENAME zamba)
  install(FILES ${ZAMBA_MANUAL}/_zamba DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES ${ZAMBA_MANUAL}/zamba.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()

# pkg-config: `pkg-config --cflags --libs zamba`, with --static for libzamba.a.
file(RELATIVE_PATH ZAMBA_PC_PREFIX "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" ZAMBA_PC_PREFIX "${ZAMBA_PC_PREFIX}")
if(OMPI_FOUND AND ZAMBA_MPI_TARGET)
  set(ZAMBA_PC_MPI " ompi-c")
endif()
configure_file(packaging/zamba.pc.in ${CMAKE_BINARY_DIR}/packaging/zamba.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/packaging/zamba.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# CMake: find_package(zamba) gives the target zamba::zamba.
set(ZAMBA_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/zamba)
configure_package_config_file(packaging/zambaConfig.cmake.in ${CMAKE_BINARY_DIR}/packaging/zambaConfig.cmake
                              INSTALL_DESTINATION ${ZAMBA_CMAKE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/packaging/zambaConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/packaging/zambaConfig.cmake ${CMAKE_BINARY_DIR}/packaging/zambaConfigVersion.cmake
        DESTINATION ${ZAMBA_CMAKE_DIR})
install(EXPORT zamba NAMESPACE zamba:: FILE zambaTargets.cmake DESTINATION ${ZAMBA_CMAKE_DIR})

# The default model, documents and the sources of the examples.
install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/zamba/models
        PATTERN "starter-zamba2" EXCLUDE)
install(FILES README.md LICENSE NOTICE CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md"
        PATTERN "screenshots" EXCLUDE)
install(DIRECTORY examples/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples FILES_MATCHING PATTERN "*.c")
